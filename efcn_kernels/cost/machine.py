"""What the CPU at hand can do at most, measured once: the rates that the cost model (model.py) takes shares of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import NamedTuple

import torch

from efcn_kernels.ops.backends import cpu
from efcn_kernels.pattern.validation import integer

_COPIED = 1 << 26


# how much faster bfloat16 is than float32, by instruction set: amx 1.8 to 3.7 for the three passes of layers with 32 channels and more,
# avx512_bf16 (Zen 4) 1.4 to 1.9. What others convert is as fast as float32
BFLOAT16 = {"amx": 3.0, "avx512_bf16": 1.7}


class Tile(NamedTuple):
    """The register tile of the kernels in use: rows, bytes of a vector, how much faster bfloat16 is, whether images are read in place."""

    rows: int
    vector_bytes: int
    bfloat16: float = 1.0
    in_place: bool = False

    @classmethod
    def here(cls) -> Tile:
        """That of the instruction set and the tuning in use; the smallest one where the compiled kernels are missing."""
        if cpu.missing():
            return cls(4, 16)
        return cls(*cpu.tile(), BFLOAT16.get(cpu.isa(), 1.0), cpu.tuning() == "in_place")


@dataclass(frozen=True)
class Machine:
    """peak: FLOP/s of multiply-adds on registers; copy: bytes/s that a copy reads and writes; both with `threads` threads.

    tile: of the kernels, those in use if not given.
    """

    peak: float
    copy: float
    threads: int = 1
    tile: Tile = field(default_factory=Tile.here)

    def __post_init__(self) -> None:
        integer("threads", self.threads, 1)
        for name, rate in (("peak", self.peak), ("copy", self.copy)):
            if not rate > 0:
                raise ValueError(f"{name} must be a positive rate per second, got {rate}")

    @classmethod
    def here(cls, dtype: torch.dtype = torch.float32, threads: int | None = None) -> Machine:
        """This machine, measured at the first call for a dtype and number of threads (None: torch's) in some 0.2 s.

        Without the compiled kernels torch.mm stands in for their loop of multiply-adds.
        """
        return _measured(dtype == torch.float64, torch.get_num_threads() if threads is None else integer("threads", threads, 1))

    def seconds(self, flop: float, share: float, moved: float) -> float:
        """The longer of computing at a share of the peak and moving so many bytes."""
        return max(flop / (share * self.peak) if flop else 0.0, moved / self.copy)


@cache
def _measured(double: bool, threads: int) -> Machine:
    with using_threads(threads):
        source, target = torch.ones(2, _COPIED // 4, dtype=torch.float32, device="cpu")
        copy = 2 * _COPIED / _shortest(lambda: target.copy_(source))
        if cpu.missing() is None:
            peak = cpu.fma_peak(torch.float64 if double else torch.float32, seconds=0.02)
            return Machine(peak, copy, threads)
        a, b = torch.ones(2, 512, 512, dtype=torch.float64 if double else torch.float32, device="cpu")
        return Machine(2 * 512**3 / _shortest(lambda: torch.mm(a, b)), copy, threads)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shortest(call: Callable[[], object]) -> float:
    """Seconds of the shortest of five calls, after one to warm up."""
    call()
    times = []
    for _ in range(5):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)
