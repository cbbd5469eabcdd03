"""What the CPU kernels are to reach, as data, and what was measured beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from efcn_kernels.bench.cases import CASES, GROUPS
from efcn_kernels.bench.result import CONTIGUOUS, NO_GRAD_INPUT, OURS

# as in the JSON of a run: the whole of it, and one layer at one batch
Run = dict[str, Any]
Entry = dict[str, Any]

# at small batches the weights are streamed: what is asked is the smaller of these shares
OF_PEAK, OF_COPY = 0.60, 0.70
# AVX2 forced: the same shares of its own peak, minus so much
AVX2_ALLOWANCE = 0.10


@dataclass(frozen=True)
class Target:
    """A claim about layers.

    layers: names of cases. what: in words. values: what is compared, by name, of one layer (nothing: it was not measured).
    at_most: whether the limit is an upper one. batch: images. percent: the values are shares of the peak.
    form: "each" layer has a row, or "sum" (of the layers' times), or "worst" (of the layers).
    avx2: holds for runs in which AVX2 was forced, and for no other. of: what percentages are of.
    """

    layers: tuple[str, ...]
    what: str
    values: Callable[[Entry, Run], dict[str, float]]
    limit: float
    at_most: bool = False
    batch: int = 250
    percent: bool = True
    form: str = "each"
    avx2: bool = False
    of: str = "peak"


class Row(NamedTuple):
    """One line of the report. hit: None where nothing was measured, or nothing that can be believed."""

    layer: str
    batch: int
    what: str
    target: str
    measured: str
    hit: bool | None


def passes(entry: Entry, run: Run) -> dict[str, float]:
    """Each pass, as a share of the peak."""
    return _known({name: timing["share_of_peak"] for name, timing in entry["passes"].items()})


def step(name: str) -> Callable[[Entry, Run], dict[str, float]]:
    """A whole step of ours, as a share of the peak."""
    return lambda entry, run: _known({"": entry["step_shares_of_peak"].get(name)})


def ratio(name: str, to: str) -> Callable[[Entry, Run], dict[str, float]]:
    """The time of one step as a multiple of another's."""

    def values(entry: Entry, run: Run) -> dict[str, float]:
        steps = entry["steps"]
        return {"": steps[name]["median_ms"] / steps[to]["median_ms"]} if {name, to} <= set(steps) else {}

    return values


def small_batch(entry: Entry, run: Run) -> dict[str, float]:
    """The rate of each pass as a share of what is asked of small batches."""
    if run["peak_doubt"]:
        return {}
    from_memory = entry["flop_per_pass"] / entry["bytes_per_pass"] * run["copy_gbytes"]
    asked = min(OF_PEAK * run["peak_gflops"], OF_COPY * from_memory)
    return {name: timing["gflops"] / asked for name, timing in entry["passes"].items()}


_MANY_CHANNELS = ("alexnet.conv2", "skinny.conv2", "wide32", "wide14", "alexnet.conv3", "alexnet.conv4", "alexnet.conv5")
_STEP = "the whole step"
_TRAINING = "the step without grad-input"
_LOCAL = tuple(case.name for case in CASES if case.name in GROUPS["table"] and case.support == "local")

# passes are held one by one where channels are many, elsewhere the step as a whole
SHARES = (
    Target(_MANY_CHANNELS, "each pass", passes, 0.80),
    Target(("dilated",), _STEP, step(OURS), 0.70),
    Target(("odd", "strided", "grouped"), _STEP, step(OURS), 0.55),
    Target(("alexnet.conv1",), _STEP, step(OURS), 0.40),
    Target(("alexnet.conv1",), _TRAINING, step(NO_GRAD_INPUT), 0.40),
    Target(("digits",), _STEP, step(OURS), 0.25),
    Target(("digits",), _TRAINING, step(NO_GRAD_INPUT), 0.25),
)
TARGETS = (
    *SHARES,
    Target(GROUPS["alexnet"], "time / the convolutions'", ratio(OURS, "conv"), 0.70, at_most=True, percent=False, form="sum"),
    Target(GROUPS["alexnet"], "dense Linear's time / ours", ratio("linear", OURS), 13, percent=False, form="sum"),
    Target(GROUPS["alexnet"], "unfold + baddbmm's time / ours", ratio("unfold", OURS), 9, percent=False, form="sum"),
    *(
        Target(
            _LOCAL,
            f"each pass / min({100 * OF_PEAK:.0f} % of peak, {100 * OF_COPY:.0f} % of copy)",
            small_batch,
            1,
            batch=n,
            percent=False,
            form="worst",
        )
        for n in (1, 8, 32)
    ),
    Target(GROUPS["dense"], "dense Linear's time / ours", ratio("linear", OURS), 1, percent=False),
    Target(_LOCAL, "contiguous / batch-last", ratio(CONTIGUOUS, OURS), 1.25, at_most=True, percent=False, form="worst"),
    *(replace(target, limit=round(target.limit - AVX2_ALLOWANCE, 2), avx2=True) for target in SHARES),
)


def evaluate(runs: Sequence[Run], targets: Sequence[Target] = TARGETS) -> list[Row]:
    """The rows of all targets; each layer's figures are those of the first run that has them."""
    return [row for target in targets for row in _rows(target, [r for r in runs if (r["settings"]["isa"] == "avx2") == target.avx2])]


def _rows(target: Target, runs: Sequence[Run]) -> list[Row]:
    found: dict[str, tuple[Entry, Run]] = {}
    for run in runs:
        for entry in run["cases"]:
            if entry["batch"] == target.batch and entry["name"] in target.layers:
                found.setdefault(entry["name"], (entry, run))
    if target.form == "each":
        return [_row(target, layer, {layer: found.get(layer)}) for layer in target.layers]
    if target.form == "sum":
        return [_row(target, "AlexNet's five together", {"": _together([found.get(layer) for layer in target.layers])})]
    few = ", ".join(target.layers) if len(target.layers) < 3 else f"{len(target.layers)} layers"
    return [_row(target, few, {layer: found.get(layer) for layer in target.layers})]


def _row(target: Target, layer: str, found: dict[str, tuple[Entry, Run] | None]) -> Row:
    values = {(name, key): v for name, pair in found.items() if pair for key, v in target.values(*pair).items()}
    what = f"{target.what}, AVX2" if target.avx2 else target.what
    wanted = f"{'≤' if target.at_most else '≥'} " + (f"{100 * target.limit:.0f} % of {target.of}" if target.percent else f"{target.limit:g}x")
    missing = [name for name, pair in found.items() if not any(name == measured for measured, _ in values)]
    if missing:
        doubts = {pair[1]["peak_doubt"] for pair in found.values() if pair} - {None}
        return Row(layer, target.batch, what, wanted, f"no share: {doubts.pop()}" if doubts and values == {} else "not measured", None)
    hits = [v <= target.limit if target.at_most else v >= target.limit for v in values.values()]
    measured = _text(target, *values.values())
    if target.form == "worst":
        worst = (max if target.at_most else min)(values, key=lambda name: values[name])
        name = ", ".join(word for word in worst if word).replace("_", "-")
        measured = f"{sum(hits)} of {len(hits)}; worst {_text(target, values[worst])} ({name})"
    return Row(layer, target.batch, what, wanted, measured, all(hits))


def _together(found: Sequence[tuple[Entry, Run] | None]) -> tuple[Entry, Run] | None:
    """One entry with the sums of the steps that all have; None where a layer is missing or runs differ."""
    pairs = [pair for pair in found if pair]
    if len(pairs) < len(found) or any(run is not pairs[0][1] for _, run in pairs):
        return None
    shared = set.intersection(*(set(entry["steps"]) for entry, _ in pairs))
    steps = {name: {"median_ms": sum(entry["steps"][name]["median_ms"] for entry, _ in pairs)} for name in shared}
    return {"steps": steps}, pairs[0][1]


def _text(target: Target, *values: float) -> str:
    if target.percent:
        # one decimal: 79.6 % must not look like 80 %
        return " / ".join(f"{100 * value:.1f}" for value in values) + " %"
    return " / ".join(f"{value:.2f}x" if value < 10 else f"{value:.1f}x" for value in values)


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
