"""What the machine can do: its multiply-add peak, the bandwidth of a copy, and whether to believe them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from efcn_kernels.bench.machine import available_memory
from efcn_kernels.bench.timing import seconds
from efcn_kernels.ops.backends import cpu

_SIDE = 1024
# twice this is more than the largest caches that two cores are given
_COPIED_BYTES = 512 << 20
# rates of two measurements a moment apart differ by a few per cent on a quiet machine
_LENIENCE = 1.05


@dataclass
class Peak:
    """What all threads together can do, the best of a run each.

    fma: FLOP/s of a loop of multiply-adds on registers, in the instruction set in use and of the type's own kind (bfloat16 may
    have pairs or tiles). product: FLOP/s of torch's matrix product, which shows what a vendor's library makes of this machine.
    copy: bytes/s, read and written, of a copy in memory. forced: the vectors are narrower than the machine's; torch's product
    then is no measure of the peak.

    Nothing computes faster than the first, so a product or a pass that does shows it to be wrong: a disturbed measurement, or
    a library whose loop does not stay in registers (one did: its shares were twice too high and mostly still below 100 %).
    """

    fma: float | None = None
    product: float = 0.0
    copy: float = 0.0
    forced: bool = False

    def measure(self, dtype: torch.dtype) -> None:
        """Measure all again and keep the better; torch's product of 16-bit types is no measure, float32's stands in."""
        working = torch.float64 if dtype == torch.float64 else torch.float32
        self.copy = max(self.copy, copy_rate())
        if cpu.missing() is not None:
            return
        self.forced = cpu.isa() in ("base", "avx2") and cpu.isa() != cpu.isas()[-1]
        self.fma = max(self.fma or 0.0, cpu.fma_peak(dtype))
        a, b = torch.ones(2, _SIDE, _SIDE, dtype=working)
        self.product = max(self.product, *(2 * _SIDE**3 / seconds(lambda: torch.mm(a, b)) for _ in range(5)))

    def attainable(self, intensity: float) -> float | None:
        """FLOP/s that a pass of so many FLOP per byte can reach where every byte comes from memory: the roofline."""
        return None if self.fma is None else min(self.fma, intensity * self.copy)

    def doubt(self, fastest_pass: float = 0.0) -> str | None:
        """Why shares of this peak mean nothing, given the FLOP/s of the fastest pass; None where they can be believed."""
        if self.fma is None:
            return "the compiled library is missing"
        for name, rate in (("torch.mm", 0.0 if self.forced else self.product), ("one of the passes", fastest_pass)):
            if rate > _LENIENCE * self.fma:
                return (
                    f"the measured multiply-add peak of {self.fma / 1e9:.0f} GFLOP/s cannot be right, {name} reached {rate / 1e9:.0f}: "
                    "rebuild the library, or measure on a quiet machine"
                )
        return None


def copy_rate(repeats: int = 3) -> float:
    """Bytes/s, read and written, that all threads copy from one large array to another; the best of some repeats."""
    size = min(_COPIED_BYTES, (available_memory() or _COPIED_BYTES) // 8)
    source, target = (cpu.prefer_large_pages(torch.empty(size // 4)).numpy() for _ in range(2))
    source.fill(1)
    threads = torch.get_num_threads()
    # not torch's copy_: memcpy goes past the caches on large pieces and is the faster of the two, up to twice
    pieces = list(zip(np.array_split(target, threads), np.array_split(source, threads)))
    with ThreadPoolExecutor(threads) as pool:
        times = [seconds(lambda: list(pool.map(lambda piece: np.copyto(*piece), pieces))) for _ in range(1 + repeats)]
    return 2 * source.nbytes / min(times[1:])
