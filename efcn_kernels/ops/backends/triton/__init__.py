"""Kernels in Triton for NVIDIA (compute capability 8.0 on) and AMD GPUs; under TRITON_INTERPRET=1 on the CPU, for tests.

Triton is imported when a problem comes that it may take.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch

from efcn_kernels.ops.backends.gpu import DTYPES, why_not_capable
from efcn_kernels.ops.dispatch import Backend, Problem

OLDEST = (3, 6)


@cache
def interpreting() -> bool:
    """Whether Triton runs its kernels on the CPU; it looks once, when they are made."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")


@cache
def missing() -> str | None:
    """Why nothing can be computed by Triton here, or None."""
    try:
        import triton
    except ImportError as error:
        return f"triton does not import: {error}; pip install triton"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
        return f"it needs triton {'.'.join(map(str, OLDEST))} or newer, got {triton.__version__}"
    if interpreting() or torch.cuda.is_available():
        return None
    return "torch sees no GPU (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, for tests)"


def _refuse(problem: Problem) -> str | None:
    if problem.dtype not in DTYPES:
        return f"it computes {', '.join(map(str, DTYPES))}, got {problem.dtype}"
    if interpreting():
        return None
    if problem.device.type != "cuda":
        return f"it computes on a GPU only, got {problem.device} (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, for tests)"
    return None if torch.version.hip else why_not_capable(problem.device)


def _pass(op: str) -> Any:
    def compute(*arguments: Any) -> None:
        from efcn_kernels.ops.backends.triton import launch

        getattr(launch, op)(*arguments)

    return compute


backend = Backend(
    "triton",
    missing,
    _refuse,
    _pass("bsr_linear"),
    _pass("bsr_linear_backward_input"),
    _pass("bsr_linear_backward_weight"),
    _pass("bsr_linear_backward_weight_sgd"),
)
