"""Whether two groups of networks differ: their accuracies, and how sure that is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from efcn_kernels.experiment.tables import standard_error

from .gather import mean


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
