"""What is computed: the block-sparse linear map and its passes behind one schema, on whichever backend takes them."""

from __future__ import annotations

from efcn_kernels.ops.functional import batch_last, bsr_linear, build_info, prefer_large_pages

__all__ = ["batch_last", "bsr_linear", "build_info", "prefer_large_pages"]
