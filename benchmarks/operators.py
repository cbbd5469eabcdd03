"""What one call does inside, as torch's profiler sees it: which tensors are copied, and which operators take the time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.autograd.profiler import profile as profiler


class Profile(NamedTuple):
    """copies: the shape of each copied tensor, in order. self_ms: milliseconds in each operator itself, the longest first."""

    copies: list[tuple[int, ...]]
    self_ms: dict[str, float]


def profile(step: Callable[[], object], least: int) -> Profile:
    """One call of `step`; copies of tensors with fewer than `least` elements are left out.

    clone, contiguous, to and reshape all end in a copy, and so do those within torch's kernels. What the kernels here pack for
    themselves is no copy of that kind: they pack operands that are not batch-last.
    """
    with profiler(record_shapes=True, use_kineto=False) as events:
        step()
    copied: list[Any] = [tuple(e.input_shapes[0]) for e in events.function_events if e.name == "aten::copy_"]
    totals: dict[str, float] = {}
    for event in events.key_averages():
        totals[event.key] = event.self_cpu_time_total / 1e3
    longest = dict(sorted(totals.items(), key=lambda item: -item[1]))
    return Profile([shape for shape in copied if math.prod(shape) >= least], longest)
