"""Every backend on the device against dense float64 arithmetic, geometry by geometry: what `efcn verify` does, as items of the suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from efcn_kernels.bench.device import backends, tf32
from efcn_kernels.verify import verify
from efcn_kernels.verify.geometries import GEOMETRIES


def items(device: torch.device) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each geometry and backend that is there, in IEEE's float32; then, on a GPU, through TF32."""
    there = [name for name, reason in backends(device, torch.float32).items() if reason is None]
    modes = (False, True) if device.type == "cuda" else (False,)
    return {
        f"{name}, {geometry.name}{', tf32' if rounded else ''}": _item(name, geometry.name, device, rounded)
        for rounded in modes
        for name in there
        for geometry in GEOMETRIES
    }


def _item(backend: str, geometry: str, device: torch.device, rounded: bool) -> Callable[[], dict[str, Any]]:
    def compare() -> dict[str, Any]:
        with tf32(rounded):
            report = verify(backend, names=[geometry], device=device)
        if report.failures:
            raise ArithmeticError(f"{len(report.failures)} of {len(report.findings)} comparisons are wrong; {report.failures[0]}")
        return {"comparisons": len(report.findings), "worst": report.worst()}

    return compare
