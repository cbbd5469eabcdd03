"""Memory order: the output of every op lies in memory as its input does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def batch_last(x: Tensor) -> Tensor:
    """The same tensor with the batch (axis 0) innermost in memory: (N, C, H, W) lies as [H][W][C][N], (N, F) as [F][N].

    Shape and values are unchanged. A dense tensor whose batch is innermost already is returned as it is, in whatever order
    its other axes lie.
    Raises ValueError for a tensor without axes.
    """
    if x.dim() == 0:
        raise ValueError("batch_last needs a tensor with a batch axis, got one without axes")
    if x.stride(0) == 1 and _is_dense(x):
        return x
    if x.dim() == 1 or torch.compiler.is_compiling():
        # a view in a compiled graph would rely on the strides that the compiler expects of gradients
        outward = [*range(2, x.dim()), *range(1, min(x.dim(), 2)), 0]
        return x.permute(outward).contiguous().permute(sorted(range(x.dim()), key=outward.__getitem__))
    # first channels_last, then one transposition of a matrix, which torch does tile by tile: 250 x 3 x 32 x 32 in 1.0 ms, at once in 4.6
    elements = x.movedim(1, -1).flatten(1).t().contiguous()
    return elements.view(*x.shape[2:], x.size(1), x.size(0)).permute(-1, -2, *range(x.dim() - 2))


def _is_dense(x: Tensor) -> bool:
    """Whether the elements fill one piece of memory without gaps or overlap."""
    expected = 1
    for axis in reversed(outer_to_inner(x)):
        if x.size(axis) != 1 and x.stride(axis) != expected:
            return False
        expected = expected * x.size(axis)
    return True


def outer_to_inner(x: Tensor) -> list[int]:
    """The axes of x from the largest stride to the smallest; where strides tie, an axis of size 1 is the inner one."""
    axes = list(range(x.dim()))
    # an insertion sort: it compares with < only, which symbolic sizes under torch.compile can answer
    for i in range(1, len(axes)):
        j = i
        while j > 0 and _lies_outside(x, axes[j], axes[j - 1]):
            axes[j - 1], axes[j] = axes[j], axes[j - 1]
            j -= 1
    return axes


def _lies_outside(x: Tensor, a: int, b: int) -> bool:
    if x.stride(a) != x.stride(b):
        return bool(x.stride(a) > x.stride(b))
    return bool(x.size(b) == 1 and x.size(a) != 1)


def empty_like_order(x: Tensor, shape: Sequence[int]) -> Tensor:
    """An uninitialised tensor of `shape`, dense, with its axes in the memory order of the same axes of x."""
    order = outer_to_inner(x)
    strides = [1] * len(shape)
    running = 1
    for axis in reversed(order):
        strides[axis] = running
        running = running * shape[axis]
    return torch.empty_strided(tuple(shape), tuple(strides), dtype=x.dtype, device=x.device)
