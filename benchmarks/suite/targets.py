"""What the GPU kernels are to reach on an H200, as data, beside what the model predicts and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from benchmarks.suite import networks
from benchmarks.suite.layers import BATCH, BATCHES, COMPILED, LAYERS, TARGETED, WIDE, Item, vgg11
from benchmarks.suite.model import Ceilings, dense_fits, layout_of, predict, predict_training
from benchmarks.targets import Entry, Row, Run, Target, evaluate, ratio
from efcn_kernels.bench.cases import Case, select
from efcn_kernels.bench.device import PRECISIONS
from efcn_kernels.bench.result import OURS

OF_ROOFLINE, OVER_COMPILED, OVER_DENSE, DENSITY, OF_CNN = 0.60, 2, 3, 0.28, 1.5
# of cuda's kernels over Triton's: blocks with fewer than NARROW channels out or in, FEWEST images, and what is neither
NARROW, FEWEST = 16, min(BATCHES)
OVER_TRITON_NARROW, OVER_TRITON_FEW, OVER_TRITON = 1.5, 1.2, 0.9
_NETWORKS = ("skinny", "alexnet")


class Pair(NamedTuple):
    """A target as the model predicts it and as it was measured."""

    predicted: Row
    measured: Row


def attained(entry: Entry, run: Run) -> dict[str, float]:
    """Each pass, as a share of the roofline: the larger of FLOP over the matrix rate and bytes over the bandwidth, over the time."""
    return {name: timing["share_of_attainable"] for name, timing in entry["passes"].items() if timing["share_of_attainable"] is not None}


def memory(entry: Entry, run: Run) -> dict[str, float]:
    """The peak memory of a training step as a share of what the chip has; nothing where the step did not run."""
    there = run["machine"].get("memory_bytes")
    return {"": entry["peak_bytes"] / there} if entry["peak_bytes"] and there else {}


def over_triton(entry: Entry, run: Run) -> dict[str, float]:
    """Each pass: Triton's time as a multiple of cuda's; nothing where one of them was not timed."""
    others = {name.removesuffix(" backend"): passes for name, passes in entry.get("others", {}).items()}
    both = {entry.get("backend"): entry["passes"], **others}
    if not {"cuda", "triton"} <= set(both):
        return {}
    return {name: both["triton"][name]["median_ms"] / timing["median_ms"] for name, timing in both["cuda"].items()}


@cache
def targets(precision: str) -> tuple[Target, ...]:
    """Those of one precision."""
    wide = [case for case in LAYERS if min(case.in_channels, case.out_channels) >= WIDE]
    sparse = [case.name for case in wide if layout_of(case).density <= DENSITY and dense_fits(case, precision)]
    return (
        Target(tuple(case.name for case in wide), f"each pass, {precision}", attained, OF_ROOFLINE, batch=BATCH, of="the roofline"),
        _times(COMPILED, "unfold + bmm compiled's time / ours", "unfold-compiled", OVER_COMPILED, precision),
        _times(sparse, "dense Linear's time / ours", "linear", OVER_DENSE, precision),
        Target(_NETWORKS, f"eLCN's training step / the CNN's, {precision}", ratio("elcn", "cnn"), OF_CNN, at_most=True, percent=False),
        Target(
            ("vgg11",), f"memory of a training step at 224 / the chip's, {precision}", memory, 1, at_most=True, batch=networks.LARGE, percent=False
        ),
        _over_triton([case for case in LAYERS if _narrow(case)], BATCH, f"blocks under {NARROW} channels", OVER_TRITON_NARROW, precision),
        _over_triton(LAYERS, FEWEST, "few images", OVER_TRITON_FEW, precision),
        _over_triton([case for case in LAYERS if not _narrow(case)], BATCH, "elsewhere", OVER_TRITON, precision),
    )


def compare(measured: Sequence[Run], ceilings: Ceilings, memory_bytes: float | None, *, together: bool = False) -> list[Pair]:
    """Every target, as predicted from the ceilings and as measured; `measured` by precision, those that there are.

    together: one line for the layers of a target, those that were measured where there are such, with the worst of them.
    """
    pairs = []
    for precision in TARGETED:
        found = [run for run in measured if run["settings"]["dtype"] == precision]
        claims = [_summed(target, found) if together else target for target in targets(precision)]
        expected = evaluate([predicted(precision, ceilings, memory_bytes)], claims)
        pairs += [Pair(*rows) for rows in zip(expected, evaluate(found, claims), strict=True)]
    return pairs


def predicted(precision: str, ceilings: Ceilings, memory_bytes: float | None) -> Run:
    """A run as the model expects it, at the batch of the targets."""
    peak = ceilings.peak(precision)
    cases: list[dict[str, Any]] = [predict(Item(case, BATCH, precision), ceilings).as_dict(peak) for case in LAYERS]
    for name, layers, batch in (*((name, select([name]), 250) for name in _NETWORKS), ("vgg11", vgg11(224), networks.LARGE)):
        steps = predict_training(layers, batch, precision, ceilings)
        cases.append(network(name, batch, {key: 1e3 * seconds for key, seconds in steps.items()}, _least_memory(layers, batch, precision)))
    return {"settings": {"isa": None, "dtype": precision}, "machine": {"memory_bytes": memory_bytes}, "peak_doubt": None, "cases": cases}


def network(name: str, batch: int, steps_ms: dict[str, float], peak_bytes: float | None) -> Entry:
    """A network in the form in which targets take layers."""
    return {"name": name, "batch": batch, "steps": {key: {"median_ms": ms} for key, ms in steps_ms.items()}, "peak_bytes": peak_bytes}


def _summed(target: Target, runs: Sequence[Run]) -> Target:
    cases = [(case, run) for run in runs for case in run["cases"] if case["batch"] == target.batch and case["name"] in target.layers]
    measured = {case["name"] for case, run in cases if target.values(case, run)}
    return replace(target, form="worst", layers=tuple(name for name in target.layers if name in measured) or target.layers)


def _times(layers: Sequence[str], what: str, name: str, limit: float, precision: str) -> Target:
    return Target(tuple(layers), f"{what}, {precision}", ratio(name, OURS), limit, batch=BATCH, percent=False)


def _narrow(case: Case) -> bool:
    return min(layout_of(case).block) < NARROW


def _over_triton(layers: Sequence[Case], batch: int, where: str, limit: float, precision: str) -> Target:
    names = tuple(case.name for case in layers)
    return Target(names, f"Triton's pass / cuda's, {where}, {precision}", over_triton, limit, batch=batch, percent=False)


def _least_memory(layers: Sequence[Case], batch: int, precision: str) -> float:
    """Weights and gradients, and each layer's outputs with their gradients."""
    numbers = sum(layout_of(case).nnz + batch * case.out_features for case in layers)
    return float(2 * PRECISIONS[precision].dtype.itemsize * numbers)
