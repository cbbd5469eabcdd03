"""What a study has found so far, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efcn_kernels.study.config import load
from efcn_kernels.study.data.catalog import CATALOG
from efcn_kernels.study.data.sets import load as load_images
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.workspace import Workspace, read_json
from efcn_kernels.study.train.journal import read

# epochs at the end whose median and spread say how much the last one's accuracy is worth
LATE = 10
# the share of a training's epochs in which its accuracy is nowhere near its end's
_EARLY = 0.1


@dataclass(frozen=True)
class Found:
    """A task, its rows by epoch and its result (None: it is not at its end)."""

    task: Task
    rows: list[dict[str, Any]]
    result: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.result is not None and self.result["status"] == "finished"

    @property
    def diverged(self) -> bool:
        """Whether its loss was no longer finite."""
        return self.result is not None and not self.finished

    @property
    def status(self) -> str:
        """Finished, diverged, or how far it is."""
        if self.result is not None:
            return "finished" if self.finished else f"diverged after epoch {self.result['end']}"
        return f"epoch {self.rows[-1]['epoch']} of {self.task.end}" if self.rows else "not begun"

    @property
    def under_way(self) -> bool:
        """Whether it has not come to an end of any kind, but has trained for a share of its epochs that says something of it."""
        return self.result is None and len(self.rows) > 1 + _EARLY * (self.task.end - self.task.start)

    @property
    def late(self) -> list[float]:
        """Test accuracies of the last epochs, at most LATE of them."""
        return [row["test_accuracy"] for row in self.rows[1:] or self.rows if row["test_accuracy"] is not None][-LATE:]

    @property
    def accuracy(self) -> float:
        """Test accuracy at its last epoch."""
        return float(self.rows[-1]["test_accuracy"])

    @property
    def best(self) -> float:
        """The largest test accuracy of all epochs: it is chosen by the test set, so it is too good."""
        return max(float(row["test_accuracy"]) for row in self.rows if row["test_accuracy"] is not None)

    def at(self, epoch: int) -> dict[str, Any] | None:
        """The row of an epoch."""
        return next((row for row in self.rows if row["epoch"] == epoch), None)

    @property
    def seconds(self) -> float | None:
        """Median training time of an epoch."""
        times = [row["seconds"] for row in self.rows if "seconds" in row]
        return float(np.median(times)) if times else None


class Study:
    """The trainings of a study in `folder`. Raises ValueError where there is none."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.toml").is_file():
            raise ValueError(f"{folder} is no study: it has no config.toml; expected a folder that efcn relax wrote")
        self.folder, self.config = folder, load(folder / "config.toml")
        self.workspace = Workspace(folder, self.config)
        self.runs = [Found(t, read(self.workspace.journal(t).path), self.workspace.result(t)) for t in plan.tasks(self.config) if t.arm != "paths"]
        self.environment: dict[str, Any] = ((read_json(folder / "environment.json") or {}).get("sessions") or [{}])[-1]

    @property
    def times(self) -> tuple[int, ...]:
        """The relax times."""
        return self.config.times

    @property
    def middle(self) -> int:
        """The relax time that stands for all where there is room for one."""
        return self.times[len(self.times) // 2]

    @property
    def relaxed(self) -> list[str]:
        """Names of all that starts from snapshots: followers, then controls."""
        return [*self.config.relax.followers, *(arm for arm in self.config.relax.controls if arm != "FCN")]

    @cached_property
    def test_images(self) -> int:
        """Images that an accuracy is measured on."""
        counted = [row["measured"]["exactness"]["images"] for run in self.runs for row in run.rows[:1] if "exactness" in row["measured"]]
        if counted:
            return int(counted[0])
        name, asked = self.config.data.name, self.config.data.test_images
        return asked or (CATALOG[name].test_count if name in CATALOG else len(load_images(name).test_labels))

    @property
    def rival(self) -> str:
        """What a follower is compared with: the control where the study has it, else the CNN that was never stopped."""
        return "control CNN" if "CNN" in self.config.relax.controls else "CNN never stopped"

    def rivals(self, time: int) -> list[Found]:
        """The trainings of `rival` for a relax time, one for each seed."""
        return self.of("CNN", time if "CNN" in self.config.relax.controls else None)

    def of(self, arm: str, time: int | None = None) -> list[Found]:
        """The trainings of an arm, one for each seed. "CNN" with a time is the control, without one the CNN that is never stopped."""
        wanted = time or 0
        return [run for run in self.runs if run.task.arm == arm and run.task.start == wanted and (arm != "CNN" or run.task.is_cnn == (time is None))]

    def cnn_at(self, epoch: int) -> dict[int, float]:
        """Test accuracy of the CNN that is never stopped at an epoch, by seed."""
        rows = {run.task.seed: run.at(epoch) for run in self.of("CNN")}
        return {seed: row["test_accuracy"] for seed, row in rows.items() if row is not None}

    def final(self, arm: str, time: int | None = None) -> dict[int, float]:
        """Test accuracy at the end, by seed, of those that are there."""
        return {seed: run.accuracy for seed, run in self.ends(arm, time).items()}

    def ends(self, arm: str, time: int | None = None) -> dict[int, Found]:
        """Those that have finished, by seed."""
        return {run.task.seed: run for run in self.of(arm, time) if run.finished}

    def right(self, run: Found) -> NDArray[np.bool_] | None:
        """(N,) which test images it classifies right at its end; None where an older version of this package ran it."""
        path = self.workspace.folder(run.task) / plan.ANSWERS
        return np.load(path)["right"] if path.is_file() else None

    def pairs(self, arm: str, time: int) -> list[tuple[Found, Found]]:
        """(follower, its rival of the same seed), where both have begun."""
        rivals = {run.task.seed: run for run in self.rivals(time)}
        return [(run, rivals[run.task.seed]) for run in self.of(arm, time) if run.rows and rivals[run.task.seed].rows]

    def ways(self) -> dict[int, list[dict[str, Any]]]:
        """Rows of the interpolations by relax time, of the first seed that has them."""
        found: dict[int, list[dict[str, Any]]] = {}
        for task in plan.tasks(self.config):
            result = self.workspace.result(task) if task.arm == "paths" else None
            if result is not None and result["ways"]:
                found.setdefault(task.start, result["ways"])
        return found

    def heat_maps(self, time: int) -> list[tuple[dict[str, NDArray[np.float32]], dict[str, int]]]:
        """(images (C, H, W) by arm, the unit) for each unit at a relax time, of the first seed that has them."""
        # what an FCN looks like would hide on its scale what the others grew
        arms = [arm for arm in self.relaxed if arm != "FCN-norms"]
        for seed in self.config.run.seeds:
            runs = [run for arm in arms for run in self.of(arm, time) if run.task.seed == seed and run.finished]
            if runs and runs[0].result is not None:
                names = {run.task.arm: "control CNN" if run.task.arm == "CNN" else run.task.arm for run in runs}
                stacks = {names[run.task.arm]: np.load(self.workspace.folder(run.task) / plan.HEAT_MAPS)["weights"] for run in runs}
                units = runs[0].result["measured"]["units"]
                return [({arm: stack[i] for arm, stack in stacks.items()}, unit) for i, unit in enumerate(units)]
        return []


def last_measured(run: Found, *keys: str) -> Any:
    """The newest value of measured[key][key]... that a training has, or None."""
    for row in reversed(run.rows):
        value: Any = row["measured"]
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return sum(values) / len(values)
