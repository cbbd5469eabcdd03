"""The three passes in plain torch, for every floating-point dtype on CPUs and CUDA devices: written to be believed, not to be fast.

Each loops over a block's rank in its row, so that every step touches each output site at most once: no atomics, and
temporaries of the size of x and y only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from efcn_kernels.ops.dispatch import Backend, Problem
from efcn_kernels.ops.dtypes import accumulator
from efcn_kernels.ops.sgd import SGD, sgd_step
from efcn_kernels.pattern.index import Index


def bsr_linear(y: Tensor, x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> None:
    """y[n, p] = bias[p] + sum over blocks (p, q) of values[block] @ x[n, q]."""
    total = torch.zeros_like(y, dtype=accumulator(y.dtype))
    for p, block in _ranks(index.crow):
        q = index.col[block]
        total[:, p] += torch.einsum("boi,nbi->nbo", _widen(values[block]), _widen(x[:, q]))
    y.copy_(total if bias is None else total + bias)


def bsr_linear_backward_input(gx: Tensor, gy: Tensor, values: Tensor, index: Index) -> None:
    """gx[n, q] = sum over blocks (p, q) of values[block]^T @ gy[n, p]."""
    total = torch.zeros_like(gx, dtype=accumulator(gx.dtype))
    for q, entry in _ranks(index.tcrow):
        p, block = index.tcol[entry], index.tblock[entry]
        total[:, q] += torch.einsum("boi,nbo->nbi", _widen(values[block]), _widen(gy[:, p]))
    gx.copy_(total)


def bsr_linear_backward_weight(gvalues: Tensor, gy: Tensor, x: Tensor, index: Index) -> None:
    """gvalues[block] = sum over n of gy[n, p] outer x[n, q]."""
    for block, gradient in _gradients(gy, x, index):
        gvalues[block] = gradient


def bsr_linear_backward_weight_sgd(
    values: Tensor, momentum_buffer: Tensor | None, gy: Tensor, x: Tensor, mask: Tensor | None, rule: SGD, index: Index
) -> None:
    """A step of SGD by the gradients of bsr_linear_backward_weight where `mask` is true, by zeros elsewhere."""
    for block, gradient in _gradients(gy, x, index):
        weights, momentum = values[block], None if momentum_buffer is None else momentum_buffer[block]
        sgd_step(weights, momentum, gradient if mask is None else gradient * mask[block], rule)
        values[block] = weights
        if momentum_buffer is not None and momentum is not None:
            momentum_buffer[block] = momentum


def _gradients(gy: Tensor, x: Tensor, index: Index) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of some blocks and their gradients, until all were there."""
    for p, block in _ranks(index.crow):
        yield block, torch.einsum("nbo,nbi->boi", _widen(gy[:, p]), _widen(x[:, index.col[block]])).to(gy.dtype)


def _ranks(pointers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For k = 0, 1, ...: the rows that hold more than k entries, and the number of their k-th entry."""
    begin, length = pointers[:-1].long(), pointers.diff()
    for k in range(int(length.max()) if length.numel() else 0):
        rows = (length > k).nonzero().squeeze(1)
        yield rows, begin[rows] + k


def _widen(x: Tensor) -> Tensor:
    return x.to(accumulator(x.dtype))


def _refuse(problem: Problem) -> str | None:
    return None if problem.dtype.is_floating_point or problem.dtype.is_complex else f"it computes floating point only, got {problem.dtype}"


backend = Backend(
    "reference", lambda: None, _refuse, bsr_linear, bsr_linear_backward_input, bsr_linear_backward_weight, bsr_linear_backward_weight_sgd
)
