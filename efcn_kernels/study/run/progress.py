"""What a person sees of a study: bars in a terminal, and a line for each task that has ended, in a log too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from efcn_kernels.study.run import plan
from efcn_kernels.study.run.estimate import Done, Estimate, estimate
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train.journal import read

# between two estimates, which read a file for each task
_SECONDS = 5.0


class Display:
    """What a person sees of a study on `console`; nothing without one."""

    def __init__(self, console: Console | None, workspace: Workspace) -> None:
        self.workspace, self.console = workspace, console
        columns = (TextColumn("{task.description:<20}"), BarColumn(24), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
        # a file gets lines alone: bars would come all at once, at the end
        self._bars = Progress(*columns, console=console, disable=console is None or not console.is_terminal)
        self._shown: dict[str, TaskID] = {}
        self._all = plan.tasks(workspace.config)
        self._finished = [task for task in self._all if workspace.done(task)]
        self._estimate: Estimate | None = None
        self._next = 0.0

    def __enter__(self) -> Display:
        self._whole = self._bars.add_task("whole study", total=1.0, note="")
        self._bars.start()
        before = f", {len(self._finished)} of them done before" if self._finished else ""
        self._say(f"{self.workspace.root}: {len(self._all)} tasks{before}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def ended(self, task: Task, error: BaseException | None, working: Sequence[Task], hands: int) -> None:
        """Say how a task has ended; error: what it raised."""
        if isinstance(error, KeyboardInterrupt):
            return
        if error is not None:
            self._say(f"{task.name} failed: {error}")
            return
        self._finished.append(task)
        self._estimate = self._estimated(working, hands)
        self._say(f"{task.name} {_how(self.workspace, task)}; {self._counted()}")

    def show(self, working: Sequence[Task], hands: int) -> None:
        """Bring the bars up to date; hands: how many tasks can be worked at side by side."""
        if self._bars.disable:
            return
        for name in set(self._shown) - {task.name for task in working}:
            self._bars.remove_task(self._shown.pop(name))
        for task in working:
            if task.name not in self._shown:
                self._shown[task.name] = self._bars.add_task(task.name, total=None, note="")
            progress = self.workspace.progress(task)
            if progress is not None:
                note = f"epoch {min(task.start + int(progress['epochs']) + 1, task.end)} of {task.end}"
                self._bars.update(self._shown[task.name], completed=progress["epochs"], total=task.end - task.start, note=note)
        if self._estimate is None or time.monotonic() > self._next:
            self._estimate = self._estimated(working, hands)
            self._next = time.monotonic() + _SECONDS
        self._bars.update(self._whole, completed=self._estimate.share, note=self._counted())

    def _counted(self) -> str:
        left = str(self._estimate or "")
        return f"{len(self._finished)} of {len(self._all)} tasks done{', ' if left else ''}{left}"

    def _estimated(self, working: Sequence[Task], hands: int) -> Estimate:
        done = {}
        for task in self._all:
            progress = self.workspace.progress(task) or {"epochs": 0.0}
            # of the task as it is now: a study may have been extended since
            share = progress["epochs"] / max(1, task.end - task.start)
            if task not in self._finished:
                done[task.name] = Done(share, progress.get("seconds", 0.0))
            else:
                # what has diverged is over, but says nothing of how long others take
                done[task.name] = Done(1.0, progress.get("seconds", 0.0) if share == 1 else 0.0)
        return estimate(self._all, done, working, hands)

    def _say(self, line: str) -> None:
        if self.console is not None:
            self.console.print(escape(f"{datetime.now():%H:%M} {line}"), soft_wrap=True, highlight=False)


def _how(workspace: Workspace, task: Task) -> str:
    """How a task has ended, and how good its network is."""
    result = workspace.result(task) or {}
    if result.get("status") == "diverged":
        return f"diverged after epoch {result['end']}: {result['reason']}"
    rows = read(workspace.journal(task).path)
    seconds = (workspace.progress(task) or {}).get("seconds")
    took = "" if not seconds else f" in {seconds / 60:.0f} min" if seconds >= 90 else f" in {seconds:.0f} s"
    good = f", test accuracy {rows[-1]['test_accuracy']:.2%}" if rows else ""
    return f"finished{took}{good}"
