"""Memory order: the output of every op lies in memory as its input does, and is not a view to autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from efcn_kernels.ops import internals
from efcn_kernels.pattern.sites import batch_innermost, batch_outermost


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
        return batch_outermost(batch_innermost(x).contiguous())
    # first channels_last, then one transposition of a matrix, which torch does tile by tile: 250 x 3 x 32 x 32 in 1.0 ms, at once in 4.6
    elements = x.movedim(1, -1).flatten(1).t().contiguous()
    return batch_outermost(elements.view(*x.shape[2:], x.size(1), x.size(0)))


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
    return x.new_empty_strided(tuple(shape), _strides(outer_to_inner(x), shape))


def empty_images_like_order(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised images (N, C, *size), dense, with batch, channels and space in the memory order that they have in images x of another size."""
    if x.is_contiguous():
        return x.new_empty(tuple(shape))
    space = range(2, x.dim())
    # space is one axis here, for what lies between its axes in x (channels, say) would tear the sites of the result apart
    order = [axis for part in outer_to_inner(x.flatten(2)) for axis in (space if part == 2 else (part,))]
    return x.new_empty_strided(tuple(shape), _strides(order, shape))


def empty_batch_last(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised batch-last images of `shape` (N, C, *size), of the dtype and device of x."""
    return x.new_empty_strided(tuple(shape), _strides([*range(2, len(shape)), 1, 0], shape))


def _strides(order: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    strides = [1] * len(shape)
    running = 1
    for axis in reversed(order):
        strides[axis] = running
        running = running * shape[axis]
    return tuple(strides)


def owned(view: Tensor) -> Tensor:
    """The same tensor, but no view to autograd, which would copy its whole base around in-place code such as a ReLU.

    Only for a view of a fresh tensor that nobody else holds or has saved for a backward pass.
    """
    apply: Any = Same.apply
    # a compiler has no in-place code, and a tracer cannot save a function of Python
    same: Tensor = view if torch.compiler.is_compiling() or internals.tracing() else apply(view)
    return same


class Same(torch.autograd.Function):
    """The identity, by a tensor that is not a view."""

    generate_vmap_rule = True

    @staticmethod
    def forward(view: Tensor) -> Tensor:
        return view.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]
