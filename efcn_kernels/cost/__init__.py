"""What the passes of a pattern cost on a CPU: a small model and the rates of the machine."""

from __future__ import annotations

from efcn_kernels.cost.machine import Machine, using_threads
from efcn_kernels.cost.model import PASSES, Plan, Work, plan, work

__all__ = ["PASSES", "Machine", "Plan", "Work", "plan", "using_threads", "work"]
