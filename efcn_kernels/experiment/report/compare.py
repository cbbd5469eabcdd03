"""Whether two groups of networks differ: their accuracies, and how sure that is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from efcn_kernels.experiment.tables import standard_error

from .gather import Study, mean


@dataclass(frozen=True)
class Difference:
    """The mean difference of two accuracies over `seeds` seeds and one standard error of it.

    The error is the larger of two: that of the test set, for two independent networks (a bound, for both see the same images), and
    that of the seeds, from three on.
    """

    value: float
    error: float
    seeds: int

    @property
    def sign(self) -> int:
        """1 or -1 where it is larger than two standard errors, else 0."""
        return int(np.sign(self.value)) if abs(self.value) > 2 * self.error else 0

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} ± {100 * self.error:.2f} points"


def difference(a: Mapping[int, float], b: Mapping[int, float], test_images: int) -> Difference | None:
    """a - b over the seeds that both have; None without one."""
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    apart = [a[seed] - b[seed] for seed in seeds]
    error = math.hypot(*(standard_error(mean([group[seed] for seed in seeds]), test_images) for group in (a, b)))
    if len(seeds) >= 3:
        error = max(error, float(np.std(apart, ddof=1)) / len(seeds) ** 0.5)
    return Difference(mean(apart), error, len(seeds))


def against_rival(study: Study, arm: str, time: int) -> Difference | None:
    """Final accuracy of a follower minus its rival's, over the seeds whose two trainings have both finished."""
    ends = [(a, b) for a, b in study.pairs(arm, time) if a.finished and b.finished]
    follower, rival = ({pair[i].task.seed: pair[i].rows[-1]["test_accuracy"] for pair in ends} for i in (0, 1))
    return difference(follower, rival, study.test_images)


def so_far(study: Study, arm: str, time: int) -> tuple[int, Difference] | None:
    """(epoch, difference at it): the last that a follower under way and its rival have both reached, of the first such seed."""
    for a, b in study.pairs(arm, time):
        if a.under_way or (a.finished and b.under_way):
            epoch = min(a.rows[-1]["epoch"], b.rows[-1]["epoch"])
            ends = [{a.task.seed: row["test_accuracy"]} for run in (a, b) if (row := run.at(epoch)) is not None]
            apart = difference(ends[0], ends[1], study.test_images) if len(ends) == 2 and epoch > time else None
            if apart is not None:
                return epoch, apart
    return None


def many(count: int, thing: str) -> str:
    """A number of things in words."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
