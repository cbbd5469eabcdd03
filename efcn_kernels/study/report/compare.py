"""Whether two groups of networks differ: their accuracies, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from efcn_kernels.study.report.gather import Found, Study, mean

# a normal variable is below two standard deviations
_CERTAIN = NormalDist().cdf(2)


@dataclass(frozen=True)
class Difference:
    """The mean difference of two accuracies over `seeds` seeds and one standard error of it.

    The error is that of the test set and, from three seeds on, that of the seeds: the root of the sum of their squares. freedom: degrees of
    freedom of the error, finite where it rests on the spread of seeds.
    """

    value: float
    error: float
    seeds: int
    freedom: float = math.inf

    @property
    def margin(self) -> float:
        """Two standard errors, or where few seeds say how large one is, as many as Student's t asks for with the same certainty."""
        return self.error * (2.0 if math.isinf(self.freedom) else float(stdtrit(self.freedom, _CERTAIN)))

    @property
    def sign(self) -> int:
        """1 or -1 where it is larger than the margin, else 0."""
        return int(np.sign(self.value)) if abs(self.value) > self.margin else 0

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} ± {100 * self.error:.2f} points"


def difference(a: Mapping[int, float], b: Mapping[int, float], test_images: int) -> Difference | None:
    """a - b over the seeds that both have; None without one.

    The test set's error is that of two independent networks: a bound, for both see the same images.
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    error = math.hypot(*(standard_error(mean([group[seed] for seed in seeds]), test_images) for group in (a, b)))
    return _over_seeds([a[seed] - b[seed] for seed in seeds], error)


def of_ends(study: Study, a: Mapping[int, Found], b: Mapping[int, Found]) -> Difference | None:
    """a - b of finished trainings over the seeds that both have; None without one.

    The test set's error is taken image by image (McNemar 1947): the images that both classify right, or both wrong, say nothing of a difference.
    It falls back to that of `difference` where the answers to single images were not kept.
    """
    seeds = sorted(set(a) & set(b))
    bound = difference({seed: a[seed].accuracy for seed in seeds}, {seed: b[seed].accuracy for seed in seeds}, study.test_images)
    # of the same image the answers of several seeds belong together
    right = [[answers for seed in seeds if (answers := study.right(group[seed])) is not None] for group in (a, b)]
    if bound is None or any(len(group) < len(seeds) for group in right):
        return bound
    apart = np.mean(right[0], axis=0) - np.mean(right[1], axis=0)
    return _over_seeds([a[seed].accuracy - b[seed].accuracy for seed in seeds], float(apart.std()) / len(apart) ** 0.5)


def _over_seeds(apart: Sequence[float], of_test_set: float) -> Difference:
    of_seeds = float(np.std(apart, ddof=1)) / len(apart) ** 0.5 if len(apart) >= 3 else 0.0
    error = math.hypot(of_test_set, of_seeds)
    # Welch and Satterthwaite: the test set's own error is as good as known
    freedom = (len(apart) - 1) * (error / of_seeds) ** 4 if of_seeds else math.inf
    return Difference(mean(apart), error, len(apart), freedom)


def against_rival(study: Study, arm: str, time: int) -> Difference | None:
    """Final accuracy of a follower minus its rival's, over the seeds whose two trainings have both finished."""
    return of_ends(study, study.ends(arm, time), {run.task.seed: run for run in study.rivals(time) if run.finished})


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


def standard_error(accuracy: float, images: int) -> float:
    """One standard error of an accuracy measured on `images` independent images (binomial)."""
    return float((accuracy * (1 - accuracy) / images) ** 0.5)


def many(count: int, thing: str) -> str:
    """A number of things in words."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
