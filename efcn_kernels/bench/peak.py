"""The machine's multiply-add peak, and whether to believe it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from efcn_kernels.bench.timing import seconds
from efcn_kernels.ops import cpu

_SIDE = 1024
# rates of two measurements a moment apart differ by a few per cent on a quiet machine
_LENIENCE = 1.05


@dataclass
class Peak:
    """FLOP/s of all threads: of a loop of multiply-adds on registers, and of torch's matrix product, the best of a run each.

    Nothing computes faster than the first, so a product or a pass that does shows it to be wrong: a disturbed measurement, or
    a library whose loop does not stay in registers (one did: its shares were twice too high and mostly still below 100 %).
    """

    fma: float | None = None
    product: float = 0.0

    def measure(self, dtype: torch.dtype) -> None:
        """Measure both again and keep the better; 16-bit types are added up, and so measured, in float32."""
        working = torch.float64 if dtype == torch.float64 else torch.float32
        if cpu.missing() is not None:
            return
        self.fma = max(self.fma or 0.0, cpu.fma_peak(working))
        a, b = torch.ones(2, _SIDE, _SIDE, dtype=working)
        self.product = max(self.product, *(2 * _SIDE**3 / seconds(lambda: torch.mm(a, b)) for _ in range(5)))

    def doubt(self, fastest_pass: float = 0.0) -> str | None:
        """Why shares of this peak mean nothing, given the FLOP/s of the fastest pass; None where they can be believed."""
        if self.fma is None:
            return "the compiled library is missing"
        for name, rate in (("torch.mm", self.product), ("one of the passes", fastest_pass)):
            if rate > _LENIENCE * self.fma:
                return (
                    f"the measured multiply-add peak of {self.fma / 1e9:.0f} GFLOP/s cannot be right, {name} reached {rate / 1e9:.0f}: "
                    "rebuild the library, or measure on a quiet machine"
                )
        return None
