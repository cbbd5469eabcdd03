"""How much of a study is done, and how long the rest will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efcn_kernels.study.run.plan import Task


@dataclass(frozen=True)
class Done:
    """How far a task is: the share of its images, and the seconds that it took for them, measurements included."""

    share: float
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """share: of the whole study's time that has passed. seconds: until its end, None before anything has trained for an epoch.

    least: whether some kind of network has not begun, so that it was taken to be as slow as the slowest so far.
    """

    share: float
    seconds: float | None
    least: bool

    def __str__(self) -> str:
        """The time left in words, empty where it is not known or nothing is left."""
        if not self.seconds:
            return ""
        minutes = round(self.seconds / 60)
        words = f"{minutes // 60}:{minutes % 60:02d} h left" if minutes >= 60 else f"{minutes} min left" if minutes else "less than a minute left"
        return f"{'at least' if self.least else 'about'} {words}" if minutes else words


def estimate(tasks: Sequence[Task], done: Mapping[str, Done], under_way: Sequence[Task], hands: int) -> Estimate:
    """Of `tasks` in the order in which they will be begun, by what those of the same kind took for an epoch.

    done: by name, absent where a task has not begun; a finished one has share 1. hands: how many work side by side.
    """
    trained = [task for task in tasks if task.end > task.start]
    spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for task in trained:
        far = done.get(task.name)
        # less than an epoch is mostly preparation
        if far is not None and far.seconds and far.share * (task.end - task.start) >= 1:
            spent[task.arm].append((far.seconds, far.share * (task.end - task.start)))
    rates = {arm: sum(seconds for seconds, _ in found) / sum(epochs for _, epochs in found) for arm, found in spent.items()}
    slowest = max(rates.values(), default=1.0)
    whole = {task.name: (task.end - task.start) * rates.get(task.arm, slowest) for task in trained}
    left = {task.name: whole[task.name] * (1 - (done[task.name].share if task.name in done else 0.0)) for task in trained}
    total = sum(whole.values())
    share = 1 - sum(left.values()) / total if total else 0.0
    if not rates:
        return Estimate(share, None, least=True)
    # each task goes to the hand that is free first
    ends = [0.0] * max(hands, 1)
    busy = {task.name for task in under_way}
    for task in sorted(trained, key=lambda task: task.name not in busy):
        ends[ends.index(min(ends))] += left[task.name]
    return Estimate(share, max(ends), least=any(left[task.name] and task.arm not in rates for task in trained))
