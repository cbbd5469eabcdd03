"""Every backend on the device against dense float64 arithmetic, geometry by geometry: what `efcn verify` does, as items of the suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.suite.engines import Engine, engines
from efcn_kernels.bench.device import tf32
from efcn_kernels.verify import verify
from efcn_kernels.verify.geometries import GEOMETRIES
from efcn_kernels.verify.run import DTYPES


def items(device: torch.device) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each geometry and backend that is there, cuda's paths apart, in IEEE's float32; then, on a GPU, through TF32."""
    there, absent = engines(device)
    modes = (False, True) if device.type == "cuda" else (False,)
    found = {
        f"{engine}, {geometry.name}{', tf32' if rounded else ''}": _item(engine, geometry.name, device, rounded)
        for rounded in modes
        for engine in there
        for geometry in GEOMETRIES
    }
    return found | {f"{name}, every geometry": _absent(reason) for name, reason in absent.items()}


def _absent(reason: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"comparisons": 0, "worst": 0.0, "absent": reason}


def _item(engine: Engine, geometry: str, device: torch.device, rounded: bool) -> Callable[[], dict[str, Any]]:
    def compare() -> dict[str, Any]:
        with tf32(rounded), engine.forced():
            report = verify(engine.backend, names=[geometry], device=device, dtypes=engine.dtypes(device, DTYPES))
        if report.failures:
            raise ArithmeticError(f"{len(report.failures)} of {len(report.findings)} comparisons are wrong; {report.failures[0]}")
        return {"comparisons": len(report.findings), "worst": report.worst()}

    return compare
