"""Which tiles a problem gets: a short list of candidates, and the first of them or, where torch may measure, the fastest.

The sizes are unmeasured: no GPU was at hand. They are chosen by what the compiler makes of them for sm_80, sm_90 and gfx942 (spills,
shared memory: tests/ops/test_triton_aot.py) and by the number of programs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from efcn_kernels.ops.backends.gpu import tf32_allowed

# so many programs fill a chip (an H200 has 132 multiprocessors, an A100 108); unmeasured
PROGRAMS = 128
_SMALLEST = 16


class Config(NamedTuple):
    """A tile of block_m x block_n sums, block_k steps of the reduction at a time, and how it is run."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


# by the way of multiplying, from the largest tile to the smallest; all unmeasured. Large ones spare L2: 128 x 256 sums in bfloat16 compute 85 FLOP
# for each byte they read, 128 x 64 half of that
TILES: dict[str, tuple[Config, ...]] = {
    "half": (Config(128, 256, 64, 8, 4), Config(128, 128, 64, 8, 4), Config(128, 64, 64, 4, 4), Config(64, 64, 64, 4, 4), Config(32, 32, 64, 4, 4)),
    "tf32": (Config(128, 256, 32, 8, 4), Config(128, 128, 32, 8, 4), Config(128, 64, 32, 4, 4), Config(64, 64, 32, 4, 4), Config(32, 32, 32, 4, 4)),
    "ieee": (Config(64, 64, 16, 4, 3), Config(64, 32, 16, 4, 3), Config(32, 32, 16, 2, 3)),
    "float64": (Config(64, 32, 16, 4, 3), Config(32, 32, 16, 4, 3)),
}
# where whole vectors cannot be loaded, addresses fill the registers: more threads share them, and tiles are smaller, so that none spills
VECTOR_BYTES, _ASYNCHRONOUS_BYTES = 16, 4
_SCATTERED, _NARROW = (64, 64, 32), (128, 128, 64)
# grad-weight holds a tile of weights beside its sums when it steps them: with 256 columns sm_90 spills 525 registers
_WEIGHT_COLUMNS = 128


class Shape(NamedTuple):
    """What the choice depends on.

    kind: a key of TILES. rows: rows of the pattern; m, n: sums of a row along each axis. channels: the reduction goes over so many
    entries of each block, or None where it goes over images. load: the bytes that one load takes at most.
    """

    kind: str
    rows: int
    m: int
    n: int
    channels: int | None
    load: int


def kind_of(dtype: torch.dtype) -> str:
    """How tensors of this dtype are multiplied; float32 by torch's own switch (torch.backends.cuda.matmul)."""
    if dtype == torch.float32:
        return "tf32" if tf32_allowed() else "ieee"
    return "float64" if dtype == torch.float64 else "half"


@lru_cache(maxsize=4096)
def candidates(shape: Shape) -> tuple[Config, ...]:
    """The tiles of the table cut to the problem, the one to take without measuring first: the largest of which there are enough."""
    cut = tuple(dict.fromkeys(_cut(config, shape) for config in TILES[shape.kind]))
    enough = next((c for c in cut if shape.rows * -(-shape.m // c.block_m) * -(-shape.n // c.block_n) >= PROGRAMS), cut[-1])
    return (enough, *(c for c in cut if c != enough))


def _cut(config: Config, shape: Shape) -> Config:
    most = config[:3] if shape.load == VECTOR_BYTES else _NARROW if shape.load >= _ASYNCHRONOUS_BYTES else _SCATTERED
    m, n, k = (min(size, limit) for size, limit in zip(config, most))
    m, n = min(m, _power(shape.m)), min(n, _power(shape.n))
    if shape.channels is not None:
        # a step that lies in one block needs no division
        own = shape.channels & -shape.channels
        k = min(k, own if own >= _SMALLEST else 32)
    else:
        n = min(n, _WEIGHT_COLUMNS)
        if most is _NARROW:
            # its inputs are gathered along m: rows of 128 spill 4 to 18 registers on sm_80
            m, k = min(m, 64), max(k // 2, _SMALLEST)
    warps = config.num_warps
    if shape.load == VECTOR_BYTES and m * n < 128 * 128:
        warps = min(warps, 4)
    elif shape.load < VECTOR_BYTES and m * n >= 64 * 64:
        warps = 8
    return Config(m, n, k, warps, config.num_stages)


def _power(size: int) -> int:
    """The smallest power of two that holds `size`, no smaller than a matrix unit takes."""
    return max(_SMALLEST, 1 << max(size - 1, 0).bit_length())


_fastest: dict[Any, Config] = {}


def pick(shape: Shape, key: tuple[Any, ...], run: Callable[[Config], None]) -> Config:
    """The first candidate, or with torch.backends.cudnn.benchmark the fastest: each is timed once per shape and `key`, by `run`.

    Results of different tiles differ in the last bits, so the first is taken where torch is to be deterministic.
    """
    choices = candidates(shape)
    if len(choices) == 1 or not torch.backends.cudnn.benchmark or torch.are_deterministic_algorithms_enabled():
        return choices[0]
    if (shape, key) not in _fastest and _can_time():
        _fastest[shape, key] = min(choices, key=lambda config: _milliseconds(run, config))
    return _fastest.get((shape, key), choices[0])


def _can_time() -> bool:
    return torch.cuda.is_available() and not torch.cuda.is_current_stream_capturing()


def _milliseconds(run: Callable[[Config], None], config: Config) -> float:
    from triton.testing import do_bench

    return float(do_bench(lambda: run(config), warmup=5, rep=20, return_mode="median"))
