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

SCHEMA = 1


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call in each round. variant: which of several ways to run it was the fastest."""

    rounds_ms: list[float]
    variant: str = ""

    @property
    def median_ms(self) -> float:
        return quartiles(self.rounds_ms)[1]

    def as_dict(self) -> dict[str, Any]:
        lower, middle, upper = quartiles(self.rounds_ms)
        variant = {"variant": self.variant} if self.variant else {}
        return {**variant, "median_ms": middle, "lower_quartile_ms": lower, "upper_quartile_ms": upper, "rounds_ms": self.rounds_ms}


@dataclass
class CaseResult:
    """One layer. steps: "ours", "ours, contiguous", and competitors; skipped: why a competitor was not timed."""

    case: Case
    weights: int
    pass_flop: int
    steps: dict[str, Timing] = field(default_factory=dict)
    passes: dict[str, Timing] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """How many times as long as ours the step takes."""
        return self.steps[name].median_ms / self.steps["ours"].median_ms

    def rate(self, name: str) -> float:
        """FLOP/s of one pass on live weights, in the median round."""
        return self.pass_flop / (self.passes[name].median_ms * 1e-3)

    def as_dict(self, peak: float | None) -> dict[str, Any]:
        return {
            "name": self.case.name,
            "layer": str(self.case),
            "weights": self.weights,
            "flop_per_pass": self.pass_flop,
            "steps": {name: {**t.as_dict(), "ratio_to_ours": self.ratio(name)} for name, t in self.steps.items()},
            "passes": {name: {**t.as_dict(), "share_of_peak": None if peak is None else self.rate(name) / peak} for name, t in self.passes.items()},
            "skipped": self.skipped,
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

    def sums(self) -> dict[str, dict[str, float]]:
        """Milliseconds of whole groups by step, for those groups and steps of which every layer was timed."""
        done = {result.case.name: result for result in self.cases}
        groups = {name: members for name, members in GROUPS.items() if set(members) <= set(done)}
        if not groups and len(done) > 1:
            groups["these layers"] = tuple(done)
        sums = {}
        for name, members in groups.items():
            shared = [step for step in done[members[0]].steps if all(step in done[m].steps for m in members)]
            sums[name] = {step: sum(done[m].steps[step].median_ms for m in members) for step in shared}
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
            "peak_doubt": doubt,
            "cases": [case.as_dict(None if doubt else self.peak.fma) for case in self.cases],
            "sums_ms": self.sums(),
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
