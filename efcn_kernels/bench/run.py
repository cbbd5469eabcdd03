"""A run: each layer with its competitors, answers first, then times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from efcn_kernels import tolerance
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.competitors import COMPETITORS
from efcn_kernels.bench.machine import available_memory, provenance
from efcn_kernels.bench.result import CaseResult, Result, Timing
from efcn_kernels.bench.step import Competitor, Ours, Step
from efcn_kernels.bench.timing import FEWEST_ROUNDS, interleave, seconds

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
MOST_MEMORY = 6_000_000_000


class WrongAnswer(RuntimeError):
    """A competitor computes something else than this package does; the message says what and how far apart they are."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    batch: images. dtype: a name in DTYPES. rounds: at most. limit_s: seconds for a layer with its competitors.
    against: names in COMPETITORS. contiguous: whether to time our step on contiguous images too. seed: of the data.
    """

    batch: int = 250
    dtype: str = "float32"
    rounds: int = 15
    limit_s: float = 30.0
    against: tuple[str, ...] = tuple(COMPETITORS)
    contiguous: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (("dtype", self.dtype, DTYPES), *(("competitor", a, COMPETITORS) for a in self.against)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name, number in (("batch", self.batch), ("rounds", self.rounds), ("limit_s", self.limit_s)):
            if number <= 0:
                raise ValueError(f"{name} must be positive, got {number}")

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "against": list(self.against)}


def run(cases: Sequence[Case], settings: Settings, advance: Callable[[str], None] = lambda _: None) -> Result:
    """Time the cases one after the other; `advance` is told the layer before its turn.

    Raises WrongAnswer where a competitor disagrees with us.
    """
    result = Result(settings.as_dict(), provenance())
    dtype = DTYPES[settings.dtype]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for case in cases:
            advance(case.name)
            result.cases.append(time_case(case, settings))
            # again after each layer, the best counts: what the machine can do does not fall when something disturbs it
            result.peak.measure(dtype)
    return result


def time_case(case: Case, settings: Settings) -> CaseResult:
    """One layer beside its competitors. Raises WrongAnswer where a competitor disagrees."""
    ours = Ours.make(case, settings.batch, DTYPES[settings.dtype])
    result = CaseResult(case, ours.layer.layout.nnz, ours.pass_flop)
    steps: dict[str, Step] = {"ours": ours.step()}
    if settings.contiguous:
        steps["ours, contiguous"] = ours.step(contiguous=True)
    variants: dict[str, str] = {}
    for name in settings.against:
        found = contender(name, ours, settings.limit_s)
        if isinstance(found, str):
            result.skipped[name] = found
            continue
        for variant, step in found.variants.items():
            steps[f"{name}/{variant}"] = step
            variants[f"{name}/{variant}"] = name
    passes = ours.passes()
    times = interleave(steps | passes, settings.rounds, settings.limit_s)
    for key in steps:
        name = variants.get(key, key)
        timing = Timing(times[key], key.removeprefix(f"{name}/") if key in variants else "")
        if name not in result.steps or timing.median_ms < result.steps[name].median_ms:
            result.steps[name] = timing
    result.passes = {name: Timing(times[name]) for name in passes}
    return result


def contender(name: str, ours: Ours, limit_s: float) -> Competitor | str:
    """The competitor of that name, its answers checked, or why it is not timed. Raises WrongAnswer where it disagrees."""
    needed = COMPETITORS[name].bytes(ours)
    available = available_memory()
    limit = MOST_MEMORY if available is None else min(MOST_MEMORY, int(0.7 * available))
    if needed > limit:
        return f"needs {needed / 1e9:.1f} GB, more than the limit of {limit / 1e9:.1f} GB"
    try:
        competitor: Competitor = COMPETITORS[name](ours)
        check(name, competitor, ours)
        slowest = max(seconds(step) for step in competitor.variants.values())
    except NotImplementedError:
        return f"torch does not compute it in {str(ours.x.dtype).removeprefix('torch.')}"
    if slowest * FEWEST_ROUNDS > limit_s:
        return f"one step takes {slowest:.1f} s, too long for {FEWEST_ROUNDS} rounds in {limit_s:g} s"
    return competitor


def check(name: str, competitor: Competitor, ours: Ours) -> None:
    """Raise WrongAnswer unless the competitor computes what the layer does."""
    for answer, (theirs, mine, scale) in competitor.compare(ours).items():
        apart = tolerance.disagreement(theirs, mine, scale)
        if not apart <= 1:
            raise WrongAnswer(f"{ours.case.name}: {answer} of {name} and ours are {apart:.3g} times as far apart as rounding explains")
