"""A layer small enough to be timed in a test, and the limits of a machine that is made up."""

from __future__ import annotations

from benchmarks.suite.model import Ceilings
from efcn_kernels.bench import Case, device

CASE = Case("small", 16, 32, (6, 5), 3, padding=1, first=True)
ROOFS = Ceilings(1e10, dict.fromkeys(device.PRECISIONS, 1e11))
