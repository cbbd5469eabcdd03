"""A run: each layer with its competitors, answers first, then times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.competitors import COMPETITORS, USUAL
from efcn_kernels.bench.device import free_memory
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.result import CONTIGUOUS, NO_GRAD_INPUT, OURS, CaseResult, Result, Timing
from efcn_kernels.bench.step import Competitor, Ours, Step
from efcn_kernels.bench.timing import FEWEST_ROUNDS, HOST, Clock, interleave, quartiles
from efcn_kernels.ops.backends import cpu
from efcn_kernels.verify import tolerance

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
MOST_MEMORY = 6_000_000_000


class WrongAnswer(RuntimeError):
    """A competitor computes something else than this package does; the message says what and how far apart they are."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    batches: images, each layer with each of them. dtype: a name in DTYPES. rounds: at most. limit_s: seconds for a layer with
    its competitors. against: names in COMPETITORS. contiguous: whether to time our step on contiguous images too.
    isa: the instruction set of our kernels (competitors choose their own), None: the best. seed: of the data.
    """

    batches: tuple[int, ...] = (250,)
    dtype: str = "float32"
    rounds: int = 15
    limit_s: float = 30.0
    against: tuple[str, ...] = USUAL
    contiguous: bool = False
    isa: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (("dtype", self.dtype, DTYPES), *(("competitor", a, COMPETITORS) for a in self.against)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name, number in (*(("batch", batch) for batch in self.batches), ("rounds", self.rounds), ("limit_s", self.limit_s)):
            if number <= 0:
                raise ValueError(f"{name} must be positive, got {number}")
        if "float32" in self.against and self.dtype not in ("bfloat16", "float16"):
            raise ValueError(f"where float32 is a competitor dtype must be bfloat16 or float16, got {self.dtype!r}")
        if self.isa is not None and self.isa not in cpu.isas():
            there = cpu.missing() or f"isa must be one of {', '.join(cpu.isas())} on this machine"
            raise ValueError(f"{there}, got isa {self.isa!r}")

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "batches": list(self.batches), "against": list(self.against)}


def run(cases: Sequence[Case], settings: Settings, advance: Callable[[str], None] = lambda _: None) -> Result:
    """Time the cases one after the other, each with every batch; `advance` is told the layer and batch before its turn.

    Raises WrongAnswer where a competitor disagrees with us.
    """
    dtype = DTYPES[settings.dtype]
    with nullcontext() if settings.isa is None else cpu.forced_isa(settings.isa), torch.random.fork_rng(devices=[]):
        result = Result(settings.as_dict(), provenance())
        torch.manual_seed(settings.seed)
        for case in cases:
            for batch in dict.fromkeys(settings.batches):
                advance(f"{case.name}, N = {batch}")
                result.cases.append(time_case(case, batch, settings))
            # again after each layer, the best counts: what the machine can do does not fall when something disturbs it
            result.peak.measure(dtype)
    return result


def time_case(case: Case, batch: int, settings: Settings) -> CaseResult:
    """One layer beside its competitors. Raises WrongAnswer where a competitor disagrees."""
    ours = Ours.make(case, batch, DTYPES[settings.dtype])
    result = CaseResult(case, batch, ours.layer.layout.nnz, *ours.work)
    # by name, then by the way to run it
    ways: dict[str, Mapping[str, Step]] = {OURS: {"": ours.step()}}
    if settings.contiguous:
        ways[CONTIGUOUS] = {"": ours.step("NCHW")}
    if case.first:
        ways[NO_GRAD_INPUT] = {"": ours.step(grad_input=False)}
    for name in settings.against:
        found = contender(name, ours, settings.limit_s)
        if isinstance(found, str):
            result.skipped[name] = found
        else:
            ways[name] = found.variants
    passes = {name: {"": step} for name, step in ours.passes().items()}
    result.steps, result.passes = time_ways((ways, passes), settings.rounds, settings.limit_s)
    return result


def time_ways(kinds: Sequence[Mapping[str, Mapping[str, Step]]], rounds: int, limit_s: float, clock: Clock = HOST) -> list[dict[str, Timing]]:
    """Of each kind (steps, passes) by name the fastest of the ways to run it, all in the same rounds."""
    keyed = {(kind, name, way): step for kind, named in enumerate(kinds) for name, ways in named.items() for way, step in ways.items()}
    times = dict(zip(keyed, interleave({str(key): step for key, step in keyed.items()}, rounds, limit_s, clock=clock).values()))
    found: list[dict[str, Timing]] = []
    for kind, named in enumerate(kinds):
        found.append({})
        for name, ways in named.items():
            medians = {way: quartiles(times[kind, name, way])[1] for way in ways}
            fastest = min(medians, key=lambda way: medians[way])
            found[-1][name] = Timing(times[kind, name, fastest], fastest, medians)
    return found


def contender(name: str, ours: Ours, limit_s: float, clock: Clock = HOST, operands: float = 0.0) -> Competitor | str:
    """The competitor of that name, its answers checked, or why it is not timed. Raises WrongAnswer where it disagrees.

    operands: as in tolerance.floor.
    """
    if COMPETITORS[name].local_only and ours.layer.off_weight is not None:
        return "has no off-local weights"
    needed = COMPETITORS[name].bytes(ours)
    limit = memory_limit(ours.x.device)
    if needed > limit:
        return f"needs {needed / 1e9:.1f} GB, more than the limit of {limit / 1e9:.1f} GB"
    try:
        competitor: Competitor = COMPETITORS[name](ours)
        check(name, competitor, ours, operands)
        slowest = max(clock.seconds(step, 1) for step in competitor.variants.values())
    except NotImplementedError:
        return f"torch does not compute it in {str(ours.x.dtype).removeprefix('torch.')}"
    except torch.OutOfMemoryError:
        return f"needs more memory than there is, though not by its count ({needed / 1e9:.1f} of {limit / 1e9:.1f} GB)"
    if slowest * FEWEST_ROUNDS > limit_s:
        return f"one step takes {slowest:.1f} s, too long for {FEWEST_ROUNDS} rounds in {limit_s:g} s"
    return competitor


def memory_limit(device: torch.device) -> int:
    """Bytes that a competitor may take."""
    free = free_memory(device)
    share = None if free is None else int(0.7 * free)
    return share if share is not None and device.type != "cpu" else min(MOST_MEMORY, share or MOST_MEMORY)


def check(name: str, competitor: Competitor, ours: Ours, operands: float = 0.0) -> None:
    """Raise WrongAnswer unless the competitor computes what the layer does."""
    for answer, (theirs, mine, scale) in competitor.compare(ours).items():
        apart = tolerance.disagreement(theirs, mine, scale, operands)
        if not apart <= 1:
            raise WrongAnswer(f"{ours.case.name}: {answer} of {name} and ours are {apart:.3g} times as far apart as rounding explains")
