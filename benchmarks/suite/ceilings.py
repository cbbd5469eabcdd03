"""The ceilings of a device, measured side by side: a large copy, a large matrix product in every precision, an empty call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.suite.model import Ceilings
from efcn_kernels.bench.device import PRECISIONS, clock, tf32
from efcn_kernels.bench.result import Timing
from efcn_kernels.bench.timing import interleave

_ROUNDS = 11


def measure(device: torch.device, *, side: int = 8192, copied_bytes: int = 4 << 30, limit_s: float = 20.0) -> dict[str, Any]:
    """Bytes/s of a copy, read and written, FLOP/s of a product of two matrices of side x side random numbers, and seconds of an empty call.

    The median round counts. Random numbers, because chips are faster on zeros.
    """
    source, target = torch.ones(2, copied_bytes // 4, device=device)
    one = torch.zeros(1, device=device)
    steps: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source), "launch": one.zero_}
    operands: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
    for name, precision in PRECISIONS.items():
        if precision.dtype not in operands:
            operands[precision.dtype] = (
                torch.randn(side, side, device=device).to(precision.dtype),
                torch.randn(side, side, device=device).to(precision.dtype),
            )
        steps[name] = _product(*operands[precision.dtype], precision.tf32)
    timings = {name: Timing(rounds) for name, rounds in interleave(steps, _ROUNDS, limit_s, clock=clock(device)).items()}
    return {
        "copy_gbytes": 2e-6 * source.numel() * source.element_size() / timings["copy"].median_ms,
        "matrix_gflops": {name: 2e-6 * side**3 / timings[name].median_ms for name in PRECISIONS},
        "launch_us": 1e3 * timings["launch"].median_ms,
        "side": side,
        "copied_bytes": source.numel() * source.element_size(),
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
    }


def ceilings(measured: dict[str, Any]) -> Ceilings:
    """What `measure` gave, in the units of the model."""
    rates = {name: 1e9 * rate for name, rate in measured["matrix_gflops"].items()}
    return Ceilings(1e9 * measured["copy_gbytes"], rates, 1e-6 * measured["launch_us"])


def _product(a: Tensor, b: Tensor, rounded: bool) -> Callable[[], object]:
    def step() -> Tensor:
        with tf32(rounded):
            return torch.mm(a, b)

    return step
