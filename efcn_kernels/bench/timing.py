"""Rounds of steps side by side: whatever else the machine does, it does to all of them alike."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

# a call shorter than this is repeated within its round: perf_counter and the first touch of caches cost some microseconds
SHORTEST_S = 0.005
FEWEST_ROUNDS = 3


def seconds(step: Callable[[], object], calls: int = 1) -> float:
    """So many calls together, in seconds of the host."""
    start = perf_counter()
    for _ in range(calls):
        step()
    return perf_counter() - start


class Clock(NamedTuple):
    """What times a step: seconds of so many calls, and below which a call is repeated within its round."""

    seconds: Callable[[Callable[[], object], int], float] = seconds
    shortest_s: float = SHORTEST_S


HOST = Clock()


def interleave(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    limit_s: float,
    advance: Callable[[], None] = lambda: None,
    clock: Clock = HOST,
) -> dict[str, list[float]]:
    """Milliseconds of one call of each step, in up to `rounds` rounds over all of them, after a warm-up call each.

    A step that has used its equal share of `limit_s` drops out, but not before 3 rounds. The garbage collector rests
    meanwhile, and freed memory stays with the process. `advance` is called after each round. Limits are in time of the host,
    which goes on while a device is at work.
    """
    measured: dict[str, list[float]] = {name: [] for name in steps}
    spent = dict.fromkeys(steps, 0.0)
    with resting_collector(), kept_memory():
        calls = {name: max(1, math.ceil(clock.shortest_s / max(clock.seconds(step, 1), 1e-9))) for name, step in steps.items()}
        for turn in range(rounds):
            for name, step in steps.items():
                if turn >= FEWEST_ROUNDS and spent[name] > limit_s / len(steps):
                    continue
                start = perf_counter()
                taken = clock.seconds(step, calls[name])
                spent[name] += perf_counter() - start
                measured[name].append(1e3 * taken / calls[name])
            advance()
    return measured


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile)."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return lower, median(values), upper


@contextmanager
def resting_collector() -> Iterator[None]:
    """Collect garbage now and not again until the end."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def kept_memory() -> Iterator[None]:
    """What is freed stays with the process (glibc; elsewhere nothing changes), until the end.

    By default large tensors go back to the system when they are freed, and the pages of the next ones are cleared anew: 5 to
    20 % of a pass here, and several times that on a virtual machine whose host takes free memory away. None of it is a step's.
    """
    # the constants of malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    trim, mmap, default = -1, -3, 128 << 10
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(mmap, 1 << 30)
    libc.mallopt(trim, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(mmap, default)
        libc.mallopt(trim, default)
        libc.malloc_trim(0)
