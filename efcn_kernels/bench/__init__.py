"""One training step of named layers beside what one would use instead, in one process: `efcn bench`."""

from __future__ import annotations

from efcn_kernels.bench.cases import CASES, GROUPS, Case, select
from efcn_kernels.bench.run import Settings, run

__all__ = ["CASES", "GROUPS", "Case", "Settings", "run", "select"]
