"""Bars of the tasks under way and of the whole study, with the time left."""

import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import plan
from .journal import read
from .plan import Task
from .workspace import Workspace, read_json

_ESTIMATE_SECONDS = 10.0


class Display:
    """What a person sees of a study on `console`; nothing without one."""

    def __init__(self, console: Console | None, workspace: Workspace) -> None:
        self.workspace = workspace
        columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, disable=console is None)
        self._shown: dict[str, TaskID] = {}
        self._all = plan.tasks(workspace.config)
        self._left: float | None = None
        self._next = 0.0

    def __enter__(self) -> "Display":
        self._bars.start()
        self._whole = self._bars.add_task("whole study", total=len(self._all))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def show(self, working: Sequence[Task], todo: Sequence[Task]) -> None:
        """Bring the bars up to date."""
        if self._bars.disable:
            return
        for name in set(self._shown) - {task.name for task in working}:
            self._bars.remove_task(self._shown.pop(name))
        for task in working:
            if task.name not in self._shown:
                self._shown[task.name] = self._bars.add_task(task.name, total=None)
            progress = read_progress(self.workspace, task)
            if progress is not None:
                self._bars.update(self._shown[task.name], completed=progress["done"], total=progress["total"])
        done = len(self._all) - len(working) - len(todo)
        # it reads all metrics
        if time.monotonic() > self._next:
            self._left = seconds_left(self.workspace, [*working, *todo])
            self._next = time.monotonic() + _ESTIMATE_SECONDS
        self._bars.update(self._whole, completed=done, description=f"whole study{_about(self._left)}")


def read_progress(workspace: Workspace, task: Task) -> dict[str, Any] | None:
    """Images done and in all, as the task last said; None before it has."""
    try:
        return read_json(workspace.folder(task) / "progress.json")
    except ValueError:
        # it is being written
        return None


def seconds_left(workspace: Workspace, left: Sequence[Task]) -> float | None:
    """Expected time of the tasks that are not done, from the epochs of their kind so far; None while a kind has not begun."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for task in plan.tasks(workspace.config):
        if task.arm != "paths":
            seconds[task.arm] += [row["seconds"] for row in read(workspace.journal(task).path) if "seconds" in row]
    total = 0.0
    for task in left:
        if task.arm == "paths":
            continue
        if not seconds[task.arm]:
            return None
        progress = read_progress(workspace, task)
        share = 1 - progress["done"] / progress["total"] if progress else 1.0
        total += share * (task.end - task.start) * median(seconds[task.arm])
    return total / workspace.config.run.processes


def _about(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    return f", {minutes // 60}:{minutes % 60:02d} h left" if minutes >= 60 else f", {minutes} min left"
