"""Which pixels a convolution reads, by loops over coordinates and nothing else."""

from __future__ import annotations

import itertools
from math import prod

from tests.support.strategies import Case


def _sides(case: Case) -> list[tuple[int, int]]:
    if case.padding == "valid":
        return [(0, 0)] * case.axes
    if case.padding == "same":
        totals = [d * (k - 1) for d, k in zip(case.dilation, case.kernel_size)]
        return [(t // 2, t - t // 2) for t in totals]
    return list(case.padding)  # type: ignore[arg-type]


def output_size(case: Case) -> tuple[int, ...]:
    sizes = []
    for axis, (before, after) in enumerate(_sides(case)):
        n, k, s, d = case.input_size[axis], case.kernel_size[axis], case.stride[axis], case.dilation[axis]
        if case.transposed:
            sizes.append((n - 1) * s - before - after + d * (k - 1) + case.output_padding[axis] + 1)
        else:
            sizes.append((n + before + after - d * (k - 1) - 1) // s + 1)
    return tuple(sizes)


def _fold(i: int, size: int, mode: str) -> int | None:
    """The pixel that stands at coordinate i, or None for zero padding."""
    if 0 <= i < size:
        return i
    if mode == "zeros":
        return None
    if mode == "replicate":
        return 0 if i < 0 else size - 1
    if mode == "circular":
        return _fold(i + size if i < 0 else i - size, size, mode)
    if size == 1:
        return 0
    return _fold(-i if i < 0 else 2 * (size - 1) - i, size, mode)


def _tap_coordinates(case: Case, o: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    """(unfolded input coordinate, tap number) of every tap of output o, dead ones too."""
    found = []
    for number, tap in enumerate(itertools.product(*map(range, case.kernel_size))):
        at = []
        for axis, (before, _) in enumerate(_sides(case)):
            s, shift = case.stride[axis], tap[axis] * case.dilation[axis]
            if not case.transposed:
                at.append(o[axis] * s - before + shift)
            elif (o[axis] + before - shift) % s == 0:
                at.append((o[axis] + before - shift) // s)
        if len(at) == case.axes:
            found.append((tuple(at), number))
    return found


def _number(at: tuple[int, ...], size: tuple[int, ...]) -> int:
    return sum(i * prod(size[axis + 1 :]) for axis, i in enumerate(at))


def _folded(case: Case, at: tuple[int, ...]) -> int | None:
    pixel = [_fold(i, n, case.padding_mode) for i, n in zip(at, case.input_size)]
    return None if None in pixel else _number(tuple(i for i in pixel if i is not None), case.input_size)


def taps_of(case: Case) -> list[tuple[int, int, int]]:
    """Every live read (output position, input position, tap)."""
    size = output_size(case)
    reads = []
    for o in itertools.product(*map(range, size)):
        for at, tap in _tap_coordinates(case, o):
            pixel = _folded(case, at)
            if pixel is not None:
                reads.append((_number(o, size), pixel, tap))
    return reads


def window_of(case: Case, radius: int) -> set[tuple[int, int]]:
    """Every (output position, input position) at Chebyshev distance up to `radius` from a tap, dead or live."""
    size = output_size(case)
    around = list(itertools.product(range(-radius, radius + 1), repeat=case.axes))
    found = set()
    for o in itertools.product(*map(range, size)):
        coordinates = {tuple(i + d for i, d in zip(at, step)) for at, _ in _tap_coordinates(case, o) for step in around}
        pixels = {_folded(case, at) for at in coordinates}
        found |= {(_number(o, size), pixel) for pixel in pixels if pixel is not None}
    return found
