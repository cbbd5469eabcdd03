"""The numbers of a study as tables: CSV for machines, rows for the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from efcn_kernels.study.report.compare import Difference, against_rival
from efcn_kernels.study.report.gather import Found, Study, last_measured, mean

# largest relative difference of a float32 network's logits from its CNN's that still counts as rounding
EXACT = 1e-4
_EPOCH = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
_MEASURED: dict[str, tuple[str, ...]] = {
    "delta": ("delta", "whole"),
    "delta_with_dead": ("delta_with_dead", "whole"),
    "sharing_deviation": ("sharing", "whole"),
    "distance_to_cnn": ("distance_to_cnn",),
    "distance_to_snapshot": ("distance_to_snapshot",),
    "norm": ("norms", "whole"),
    "accuracy_without_off_local": ("without_off_local", "accuracy"),
    "accuracy_without_local": ("without_local", "accuracy"),
    "accuracy_of_nearest_cnn": ("nearest_cnn", "accuracy"),
}


def epochs_csv(study: Study) -> str:
    """One line for each epoch of each training."""
    return _csv(
        ({**_about(run), **{key: row.get(key) for key in _EPOCH}, **{name: _at(row, keys) for name, keys in _MEASURED.items()}})
        for run in study.runs
        for row in run.rows
    )


def finals_csv(study: Study) -> str:
    """One line for each training: its end."""
    return _csv(
        {
            **_about(run),
            "status": run.status,
            **({key: run.rows[-1].get(key) for key in _EPOCH} if run.rows else {}),
            **{name: last_measured(run, *keys) for name, keys in _MEASURED.items()},
            **(run.result["measured"]["sizes"] if run.finished and run.result else {}),
        }
        for run in study.runs
    )


def paths_csv(study: Study) -> str:
    """One line for each point of each way."""
    return _csv({"relax_time": time, **row} for time, rows in study.ways().items() for row in rows)


def exactness_rows(study: Study) -> list[dict[str, Any]]:
    """How exact each mapping was, the worst of all seeds and times for each follower."""
    rows = []
    for arm in study.config.relax.followers:
        starts = [run.rows[0]["measured"].get("exactness") for time in study.times for run in study.of(arm, time) if run.rows]
        there = [start for start in starts if start]
        if there:
            worst = max(there, key=lambda start: float(start["logits_max_rel"]))
            same = all(start["accuracy_cnn"] == start["accuracy_efcn"] for start in there)
            rows.append({"arm": arm, "count": len(there), "worst": worst, "same": same})
    return rows


@dataclass(frozen=True)
class Comparison:
    """A follower and its rival at their ends, as means over the seeds whose two trainings have finished.

    late: the difference of the medians over the last epochs, best: the two best accuracies of any epoch.
    """

    arm: str
    time: int
    follower: float
    rival: float
    apart: Difference
    late: float
    best: tuple[float, float]

    @property
    def verdict(self) -> str:
        """In one word."""
        return {1: "better", 0: "no difference seen", -1: "worse"}[self.apart.sign]


def comparisons(study: Study) -> list[Comparison]:
    """Every follower at every relax time where it and its rival have finished."""
    found = []
    for arm in study.config.relax.followers:
        for time in study.times:
            ends = [(a, b) for a, b in study.pairs(arm, time) if a.finished and b.finished]
            apart = against_rival(study, arm, time)
            if apart is None:
                continue
            follower, rival = (mean([pair[i].rows[-1]["test_accuracy"] for pair in ends]) for i in (0, 1))
            late = mean([median(a.late) - median(b.late) for a, b in ends])
            best = mean([a.best for a, _ in ends]), mean([b.best for _, b in ends])
            found.append(Comparison(arm, time, follower, rival, apart, late, best))
    return found


def from_epoch_to_epoch(study: Study) -> float | None:
    """Standard deviation of the test accuracy over the last epochs of a training, the median over those that have finished."""
    spreads = [float(np.std(run.late, ddof=1)) for run in study.runs if run.finished and len(run.late) > 2]
    return float(np.median(spreads)) if spreads else None


def rank_rows(study: Study) -> list[dict[str, Any]]:
    """Spectra at the ends from the middle relax time, first seed: one row for each network and layer."""
    runs = [run for arm in study.relaxed for run in study.of(arm, study.middle)[:1]] + study.of("FCN")[:1]
    return [
        {"arm": "control CNN" if run.task.arm == "CNN" else run.task.arm, "layer": layer, **values}
        for run in runs
        if run.finished and run.result
        for layer, values in run.result["measured"]["spectrum"].items()
    ]


def _about(run: Found) -> dict[str, Any]:
    task = run.task
    return {"task": task.name, "arm": task.arm, "seed": task.seed, "relax_time": task.start if task.relaxes else None}


def _at(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = row["measured"]
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    held = list(rows)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in held for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(held)
    return file.getvalue()
