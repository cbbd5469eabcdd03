"""The problems that every backend is tested on: dtypes, patterns by name, and random tensors for them."""

from __future__ import annotations

import torch
from torch import Tensor

from efcn_kernels import BlockLayout, ConvGeometry

OPS = ("bsr_linear", "bsr_linear_backward_input", "bsr_linear_backward_weight")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

CONV_PATTERNS = {
    "k3 padded": ConvGeometry.make(5, 6, (6, 7), 3, padding=1),
    "k5 stride 2": ConvGeometry.make(3, 9, (11, 9), 5, 2, 2),
    "k4 stride 2, 3 -> 64": ConvGeometry.make(3, 64, (8, 8), 4, 2),
    "dilated": ConvGeometry.make(4, 3, (9, 9), 3, dilation=2, padding=2),
    "depthwise": ConvGeometry.make(6, 6, (5, 5), 3, padding=1, groups=6),
    "one axis": ConvGeometry.make(3, 4, (23,), 5, padding=2),
    "transposed": ConvGeometry.make(4, 3, (4, 4), 4, 2, 1, transposed=True),
    "circular": ConvGeometry.make(2, 3, (4, 5), 3, padding=2, padding_mode="circular"),
}

ODD_PATTERNS = {
    "no block": BlockLayout(3, 4, (2, 5), [0, 0, 0, 0], []),
    "no output site": BlockLayout(0, 4, (2, 5), [0], []),
    "no input site": BlockLayout(3, 0, (2, 5), [0, 0, 0, 0], []),
    "no site": BlockLayout(0, 0, (2, 5), [0], []),
    "no output channel": BlockLayout.full(3, 4, (0, 5)),
    "no input channel": BlockLayout.full(3, 4, (2, 0)),
    "empty rows and columns": BlockLayout(4, 5, (3, 2), [0, 0, 2, 2, 3], [1, 3, 3]),
    "one dense Linear": BlockLayout.full(1, 1, (41, 63)),
    "one output site": BlockLayout.full(1, 9, (10, 7)),
    "one input site": BlockLayout.full(9, 1, (10, 7)),
    "scalars": BlockLayout.full(13, 11),
    "long rows": BlockLayout.full(2, 63, (4, 4)),
}


def tensors(layout: BlockLayout, n: int, dtype: torch.dtype, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """(x, values, bias, gy), contiguous."""
    co, ci = layout.block
    x, values = torch.randn(n, layout.in_sites, ci).to(dtype), torch.randn(layout.nnzb, co, ci).to(dtype)
    return x, values, torch.randn(layout.out_sites, co).to(dtype) if bias else None, torch.randn(n, layout.out_sites, co).to(dtype)


def differentiable(layout: BlockLayout, n: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, list[Tensor]]:
    """The two or three differentiable arguments of each op."""
    co, ci = layout.block
    x, values = torch.randn(n, layout.in_sites, ci, dtype=dtype), torch.randn(layout.nnzb, co, ci, dtype=dtype)
    bias, gy = torch.randn(layout.out_sites, co, dtype=dtype), torch.randn(n, layout.out_sites, co, dtype=dtype)
    made: dict[str, list[Tensor]] = {OPS[0]: [x, values, bias], OPS[1]: [gy, values], OPS[2]: [gy, x]}
    for arguments in made.values():
        for t in arguments:
            t.requires_grad_()
    return made
