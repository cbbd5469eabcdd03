"""What was measured, in the form in which it is written to JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efcn_kernels.bench.cases import GROUPS, Case
from efcn_kernels.bench.peak import Peak
from efcn_kernels.bench.timing import quartiles

SCHEMA = 2
OURS, CONTIGUOUS, NO_GRAD_INPUT, BY_CUDA = "ours", "ours, contiguous", "ours, no grad-input", "ours by cuda"


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call in each round.

    variant: which of several ways to run it was the fastest; variants_ms: the median of each of them.
    """

    rounds_ms: list[float]
    variant: str = ""
    variants_ms: dict[str, float] = field(default_factory=dict)

    @property
    def median_ms(self) -> float:
        return quartiles(self.rounds_ms)[1]

    def as_dict(self) -> dict[str, Any]:
        lower, middle, upper = quartiles(self.rounds_ms)
        variant = {"variant": self.variant, "variants_ms": self.variants_ms} if self.variant else {}
        return {**variant, "median_ms": middle, "lower_quartile_ms": lower, "upper_quartile_ms": upper, "rounds_ms": self.rounds_ms}


@dataclass
class CaseResult:
    """One layer at one batch.

    pass_flop, pass_bytes: of each of the three passes. steps: ours, "ours, contiguous", "ours, no grad-input" (first layers)
    and competitors; skipped: why a competitor was not timed. others: passes computed by someone else, by name and pass.
    """

    case: Case
    batch: int
    weights: int
    pass_flop: int
    pass_bytes: int
    steps: dict[str, Timing] = field(default_factory=dict)
    passes: dict[str, Timing] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    others: dict[str, dict[str, Timing]] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """How many times as long as ours the step takes."""
        return self.steps[name].median_ms / self.steps[OURS].median_ms

    def rate(self, name: str) -> float:
        """FLOP/s of one pass on live weights, in the median round."""
        return self.pass_flop / (self.passes[name].median_ms * 1e-3)

    def step_rate(self, name: str) -> float:
        """FLOP/s of one of our steps, of three passes or of two, in the median round."""
        return (2 if name == NO_GRAD_INPUT else 3) * self.pass_flop / (self.steps[name].median_ms * 1e-3)

    @property
    def intensity(self) -> float:
        """FLOP per byte of one pass that touches weights, x and y once."""
        return self.pass_flop / self.pass_bytes

    def as_dict(self, peak: Peak | None) -> dict[str, Any]:
        """Plain JSON types. peak: what to give shares of, None to give none."""
        fma = peak and peak.fma
        attainable = peak and peak.attainable(self.intensity)
        return {
            "name": self.case.name,
            "layer": str(self.case),
            "batch": self.batch,
            "weights": self.weights,
            "flop_per_pass": self.pass_flop,
            "bytes_per_pass": self.pass_bytes,
            "attainable_gflops": attainable and attainable / 1e9,
            "steps": {name: {**timing.as_dict(), "ratio_to_ours": self.ratio(name)} for name, timing in self.steps.items()},
            "step_shares_of_peak": {name: fma and self.step_rate(name) / fma for name in self.steps if name.startswith(OURS)},
            "passes": {
                name: {
                    **timing.as_dict(),
                    "gflops": self.rate(name) / 1e9,
                    "share_of_peak": fma and self.rate(name) / fma,
                    "share_of_attainable": attainable and self.rate(name) / attainable,
                }
                for name, timing in self.passes.items()
            },
            "skipped": self.skipped,
            **(
                {"others": {who: {name: timing.as_dict() for name, timing in timings.items()} for who, timings in self.others.items()}}
                if self.others
                else {}
            ),
        }


@dataclass
class Result:
    """A whole run."""

    settings: dict[str, Any]
    provenance: dict[str, Any]
    peak: Peak = field(default_factory=Peak)
    cases: list[CaseResult] = field(default_factory=list)

    def doubt(self) -> str | None:
        """Why there are no shares of peak, or None."""
        return self.peak.doubt(max((case.rate(name) for case in self.cases for name in case.passes), default=0.0))

    def sums(self) -> dict[tuple[str, int], dict[str, float]]:
        """Milliseconds by step of (group, batch), for those groups and steps of which every layer was timed."""
        sums = {}
        for batch in dict.fromkeys(result.batch for result in self.cases):
            done = {result.case.name: result for result in self.cases if result.batch == batch}
            groups = {name: members for name, members in GROUPS.items() if set(members) <= set(done)}
            if not groups and len(done) > 1:
                groups["these layers"] = tuple(done)
            for name, members in groups.items():
                shared = [step for step in done[members[0]].steps if all(step in done[m].steps for m in members)]
                sums[name, batch] = {step: sum(done[m].steps[step].median_ms for m in members) for step in shared}
        return sums

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; times in milliseconds."""
        doubt = self.doubt()
        return {
            "schema": SCHEMA,
            **self.provenance,
            "settings": self.settings,
            "peak_gflops": None if self.peak.fma is None else self.peak.fma / 1e9,
            "torch_mm_gflops": self.peak.product / 1e9,
            "copy_gbytes": self.peak.copy / 1e9,
            "peak_doubt": doubt,
            "cases": [case.as_dict(None if doubt else self.peak) for case in self.cases],
            "sums_ms": [{"group": group, "batch": batch, "steps": steps} for (group, batch), steps in self.sums().items()],
        }

    def save(self, path: Path) -> None:
        """Write the JSON file at once or not at all."""
        save_json(self.as_dict(), path)


def save_json(result: dict[str, Any], path: Path) -> None:
    """Write the JSON file at once or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)


def prepare(path: Path) -> None:
    """Make the folder of a file to be written; OSError, naming the path, where it could not be written."""
    if path.is_dir():
        raise OSError(f"cannot write {path}: it is a folder; give the name of a file")
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}; give a file in a folder that can be written") from error


def load(path: Path) -> dict[str, Any]:
    """What `Result.save` wrote. Raises ValueError, naming the path, for a file that is none of this version."""
    try:
        written = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; give a file that `efcn bench --json` wrote") from error
    schema = written.get("schema") if isinstance(written, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} has schema {schema!r}, this version reads {SCHEMA}: measure again with `efcn bench --json`")
    loaded: dict[str, Any] = written
    return loaded
