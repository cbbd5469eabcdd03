"""One layer at one batch in one precision, measured: passes and steps on every backend beside what one would use instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.suite import torch_bsr
from benchmarks.suite.checks import check_pass, check_step
from benchmarks.suite.layers import Item
from benchmarks.suite.model import Ceilings, predict
from efcn_kernels.bench.device import PRECISIONS, backends, best_backend, clock, tf32
from efcn_kernels.bench.result import BY_CUDA, NO_GRAD_INPUT, OURS, CaseResult
from efcn_kernels.bench.run import WrongAnswer, contender, time_ways
from efcn_kernels.bench.step import ORDERS, Ours, Step
from efcn_kernels.bench.timing import FEWEST_ROUNDS, Clock
from efcn_kernels.ops import dispatch

# the orders for which kernels have a fast path; NCHW is that of most scripts, and only its step is timed
_FAST = ("batch-last", "channels_last")
# held against each other, so timed alike
_RIVALS = ("cuda", "triton")


def measure(item: Item, device: torch.device, ceilings: Ceilings, rounds: int, limit_s: float) -> dict[str, Any]:
    """The measured layer with shares of the ceilings, and the predicted milliseconds beside the measured ones.

    Raises WrongAnswer where two of our own answers differ, or where all competitors give others.
    """
    dtype, operands = PRECISIONS[item.precision].dtype, PRECISIONS[item.precision].rounding
    peak, expected = ceilings.peak(item.precision), predict(item, ceilings)
    best = best_backend(device, dtype)
    with tf32(PRECISIONS[item.precision].tf32), dispatch.forced_backend(best), torch.random.fork_rng():
        torch.manual_seed(0)
        ours = Ours.make(item.case, item.batch, dtype, device)
        result = CaseResult(item.case, item.batch, ours.layer.layout.nnz, *ours.work)
        watch = clock(device)
        ways = _steps(ours, operands)
        ways |= _by_cuda(ours, best, result, operands)
        ways |= _competitors(item, ours, result, limit_s, watch, operands)
        kinds: list[Mapping[str, Mapping[str, Step]]] = [ways, our_passes(ours, best, _FAST, operands)]
        others = _others(ours, best, result, limit_s, watch, operands)
        result.steps, result.passes, *rest = time_ways([*kinds, *others.values()], rounds, limit_s, watch)
        result.others = dict(zip(others, rest))
    times = {kind: {name: timing.median_ms for name, timing in getattr(expected, kind).items()} for kind in ("steps", "passes")}
    return {**result.as_dict(peak), "precision": item.precision, "backend": best, "predicted_ms": times}


def _steps(ours: Ours, operands: float) -> dict[str, Mapping[str, Step]]:
    """Our whole step in every order, after a look at what each computes; a first layer's without grad-input too."""
    ways: dict[str, Mapping[str, Step]] = {OURS: {order: ours.step(order) for order in ORDERS}}
    if ours.case.first:
        ways[NO_GRAD_INPUT] = {order: ours.step(order, grad_input=False) for order in _FAST}
    for name, steps in ways.items():
        for order, step in steps.items():
            check_step(f"{name}, {order}", step(), ours, operands, grad_input=name == OURS)
    return ways


def _by_cuda(ours: Ours, best: str, result: CaseResult, operands: float) -> dict[str, Mapping[str, Step]]:
    """The whole step by cuda's kernels where they are not the best ones anyway; `result.skipped` says why it is missing."""
    if best == "cuda":
        return {}
    reason = backends(ours.x.device, ours.x.dtype)["cuda"]
    steps = {order: ours.step(order, backend="cuda") for order in _FAST}
    try:
        for order, step in {} if reason else steps.items():
            check_step(f"{BY_CUDA}, {order}", step(), ours, operands)
    except (WrongAnswer, RuntimeError) as error:
        reason = f"{'disagrees' if isinstance(error, WrongAnswer) else 'fails'}: {error}"
    if reason is None:
        return {BY_CUDA: steps}
    result.skipped[BY_CUDA] = reason
    return {}


def _competitors(item: Item, ours: Ours, result: CaseResult, limit_s: float, watch: Clock, operands: float) -> dict[str, Mapping[str, Step]]:
    """Those that agree with us; those that do not are named in `result.skipped`."""
    ways, wrong = {}, []
    for name in item.against:
        try:
            found = contender(name, ours, limit_s, watch, operands)
        except WrongAnswer as error:
            wrong.append(str(error))
            found = f"disagrees: {error}"
        except RuntimeError as error:
            # a compiler or a library may not take this one layer; if it is the device that fails, the next call tells
            found = f"fails: {error}"
        if isinstance(found, str):
            result.skipped[name] = found
        else:
            ways[name] = found.variants
    if wrong and not ways:
        raise WrongAnswer("nothing agrees with our answers: " + "; ".join(wrong))
    return ways


def _others(ours: Ours, best: str, result: CaseResult, limit_s: float, watch: Clock, operands: float) -> dict[str, dict[str, dict[str, Step]]]:
    """The passes of our other backends and of torch's BSR; `result.skipped` says why one is missing."""
    found: dict[str, dict[str, dict[str, Step]]] = {}
    states = backends(ours.x.device, ours.x.dtype)
    if states["cuda"] is not None:
        result.skipped["cuda backend"] = states["cuda"]
    for name in (name for name, reason in states.items() if reason is None and name != best):
        try:
            skipped = _too_slow(ours, name, limit_s, watch)
            if skipped is None:
                found[f"{name} backend"] = our_passes(ours, name, _FAST if name in _RIVALS else _FAST[:1], operands)
        except WrongAnswer as error:
            skipped = f"disagrees: {error}"
        except torch.OutOfMemoryError:
            skipped = "needs more memory than there is"
        if skipped is not None:
            result.skipped[f"{name} backend"] = skipped
    bsr = torch_bsr.passes(ours, operands)
    if isinstance(bsr, str):
        result.skipped["torch BSR"] = bsr
    else:
        found["torch BSR"] = {name: {"": step} for name, step in bsr.items()}
    return found


def our_passes(ours: Ours, backend: str, orders: tuple[str, ...], operands: float) -> dict[str, dict[str, Step]]:
    """Pass by pass every order, after a look at what each computes."""
    ways: dict[str, dict[str, Step]] = {}
    for order in orders:
        for name, step in ours.passes(order, backend).items():
            check_pass(f"{backend}, {order}", name, step(), ours, operands)
            ways.setdefault(name, {})[order] = step
    return ways


def _too_slow(ours: Ours, backend: str, limit_s: float, watch: Clock) -> str | None:
    seconds = max(watch.seconds(step, 1) for step in ours.passes("batch-last", backend).values())
    if seconds * FEWEST_ROUNDS < limit_s / 4:
        return None
    return f"one pass takes {seconds:.2g} s, too long for {FEWEST_ROUNDS} rounds in a quarter of {limit_s:g} s"
