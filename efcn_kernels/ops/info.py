"""What is compiled in, and why what is missing is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from efcn_kernels.ops import dispatch, internals
from efcn_kernels.ops.backends import cpu
from efcn_kernels.pattern import csr


def build_info() -> dict[str, Any]:
    """What is compiled in, which instruction set runs, and why each missing part is missing."""
    from efcn_kernels import __version__

    return {
        "version": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "backends": {name: dispatch.get(name).state for name in dispatch.NAMES},
        "isa": None if cpu.missing() else _or_reason(cpu.isa),
        "isas": cpu.isas(),
        "tuning": None if cpu.missing() else _or_reason(cpu.tuning),
        "csr": csr.why_not_compiled or "compiled",
        "fused SGD": internals.why_not_fused() or "available",
    }


def _or_reason(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except RuntimeError as error:
        return str(error)
