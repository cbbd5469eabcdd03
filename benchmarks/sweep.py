"""Cost against work: the time of each pass as one quantity grows over two decades, fitted as a power of it.

python -m benchmarks.sweep [--json FILE] [--figure FILE]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.result import Timing, prepare
from efcn_kernels.bench.step import Ours, Step
from efcn_kernels.bench.timing import interleave


class Point(NamedTuple):
    """One problem of a sweep: the swept quantity is `value`; threads None: torch's."""

    value: int
    case: Case
    batch: int
    threads: int | None = None


class Fit(NamedTuple):
    """time = factor * value ** exponent. error: one standard error of the exponent, None where two points fix the line."""

    exponent: float
    error: float | None
    factor: float

    def __str__(self) -> str:
        return f"{self.exponent:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


@dataclass(frozen=True)
class Sweep:
    """name: the swept quantity. work: the power of it with which multiply-adds grow, or those of one thread."""

    name: str
    work: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Swept:
    """A sweep with the timing of each of its points, by pass."""

    sweep: Sweep
    times: dict[str, list[Timing]]

    @property
    def values(self) -> list[int]:
        return [point.value for point in self.sweep.points]

    def fit(self, name: str, least: float = 0) -> Fit | None:
        """The power law of one pass over the points from `least` on; None for fewer than two."""
        kept = [(value, timing.median_ms) for value, timing in zip(self.values, self.times[name]) if value >= least]
        return power_law(*zip(*kept))

    def upper(self, name: str) -> Fit | None:
        """The power law of the largest decade: below it other costs, of reading the weights or of starting a call, weigh more."""
        return self.fit(name, max(self.values) / 10)

    def as_dict(self) -> dict[str, Any]:
        fits = {name: {"all": _as_dict(self.fit(name)), "upper_decade": _as_dict(self.upper(name))} for name in self.times}
        points = [
            {
                "value": point.value,
                "layer": str(point.case),
                "batch": point.batch,
                "passes": {name: timings[i].as_dict() for name, timings in self.times.items()},
            }
            for i, point in enumerate(self.sweep.points)
        ]
        return {"name": self.sweep.name, "work_exponent": self.sweep.work, "fits": fits, "points": points}


def _as_dict(fit: Fit | None) -> dict[str, float | None] | None:
    return None if fit is None else {"exponent": fit.exponent, "standard_error": fit.error}


def sweeps(cores: int) -> tuple[Sweep, ...]:
    """The five sweeps; one layer each, of which one quantity changes: in all less than three minutes on two cores."""
    kernels = [Case("", 16, 16, (20, 20), k, padding=k // 2) for k in (1, 3, 5, 7, 9, 13)]
    middle = Case("", 64, 64, (14, 14), 3, padding=1)
    powers = [2**i for i in range(cores.bit_length()) if 2**i < cores]
    return (
        Sweep("nnz", 1, tuple(Point(case.geometry.taps().out.size * 16 * 16, case, 64) for case in kernels)),
        Sweep("N", 1, tuple(Point(n, middle, n) for n in (4, 10, 25, 64, 160, 400))),
        Sweep("threads", -1, tuple(Point(n, middle, 128, n) for n in (*powers, cores))),
        Sweep("sites", 1, tuple(Point(s * s, Case("", 32, 32, (s, s), 3, padding=1), 64) for s in (4, 6, 10, 16, 26, 40))),
        Sweep("channels", 2, tuple(Point(c, Case("", c, c, (6, 6), 3, padding=1), 64) for c in (2, 5, 13, 32, 80, 200))),
    )


def power_law(values: Sequence[float], times: Sequence[float]) -> Fit | None:
    """The least-squares line through (log value, log time); None for fewer than two different values."""
    x, y = (np.log(np.asarray(data, float)) for data in (values, times))
    spread = float(((x - x.mean()) ** 2).sum())
    if spread == 0:
        return None
    slope = float(((x - x.mean()) * y).sum()) / spread
    start, free = float(y.mean() - slope * x.mean()), x.size - 2
    rest = float(((y - start - slope * x) ** 2).sum())
    return Fit(slope, (rest / free / spread) ** 0.5 if free else None, float(np.exp(start)))


def run(sweep: Sweep, rounds: int, limit_s: float) -> Swept:
    """Time all points of a sweep in turn, round after round."""
    steps: dict[tuple[str, int], Step] = {}
    for i, point in enumerate(sweep.points):
        passes = Ours.make(point.case, point.batch, torch.float32).passes()
        steps |= {(name, i): _on(point.threads, step) for name, step in passes.items()}
    before = torch.get_num_threads()
    try:
        times = interleave({f"{name} {i}": step for (name, i), step in steps.items()}, rounds, limit_s)
    finally:
        torch.set_num_threads(before)
    names = dict.fromkeys(name for name, _ in steps)
    return Swept(sweep, {name: [Timing(times[f"{name} {i}"]) for i in range(len(sweep.points))] for name in names})


def _on(threads: int | None, step: Step) -> Step:
    if threads is None:
        return step
    count = threads

    def on_so_many() -> None:
        torch.set_num_threads(count)
        step()

    return on_so_many


def main(arguments: list[str] | None = None, make: Callable[[int], tuple[Sweep, ...]] = sweeps) -> None:
    """Run every sweep, print the exponents, write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round, with machine, commit and versions")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="one panel for each quantity, .png or .pdf")
    parser.add_argument("--rounds", type=int, default=15, help="at most so many (15)")
    parser.add_argument("--limit", type=float, default=25.0, help="seconds for one sweep (25)")
    given = parser.parse_args(arguments)
    for path in (given.json, given.figure):
        if path is not None:
            try:
                prepare(path)
            except OSError as error:
                parser.error(str(error))
    result: dict[str, Any] = provenance() | {"settings": {"rounds": given.rounds, "limit_s": given.limit}}
    done = []
    torch.manual_seed(0)
    print("exponent of the time in each quantity, one standard error")
    for sweep in make(len(os.sched_getaffinity(0))):
        done.append(run(sweep, given.rounds, given.limit))
        print(
            f"{sweep.name:9}", *(f"{name} {done[-1].fit(name)}, upper decade {done[-1].upper(name)}" for name in done[-1].times), sep="  ", flush=True
        )
    if given.json is not None:
        given.json.write_text(json.dumps(result | {"sweeps": [swept.as_dict() for swept in done]}, indent=1) + "\n")
    if given.figure is not None:
        from benchmarks.sweep_figure import draw

        draw(done, result["machine"], given.figure)


if __name__ == "__main__":
    main()
