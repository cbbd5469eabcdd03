"""Which number types there are to compute in, and what sums are kept in."""

from __future__ import annotations

import torch


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
