"""What is computed: the block-sparse linear map and its passes behind one schema, on whichever backend takes them."""

from __future__ import annotations

from efcn_kernels.ops.backends.cpu import prefer_large_pages
from efcn_kernels.ops.functional import bsr_linear, bsr_map
from efcn_kernels.ops.info import build_info
from efcn_kernels.ops.memory import batch_last

__all__ = ["batch_last", "bsr_linear", "bsr_map", "build_info", "prefer_large_pages"]
