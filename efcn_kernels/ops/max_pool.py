"""torch.ops.efcn.max_pool: max-pooling of batch-last images by csrc/cpu, with a byte for each maximum where torch keeps an index of 64 bits.

Values and gradients are torch's; it is an operator of its own only where torch's kernels would do the same (`window_of`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from efcn_kernels.ops import internals
from efcn_kernels.ops.backends import cpu

# of a window at most, as in csrc/cpu/problem.h
MOST_TAPS = 16


class Window(NamedTuple):
    """How a pooling module looks at an image, height before width; `output` is the size of what it makes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    output: tuple[int, int]


def window_of(input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Window | None:
    """How max-pooling by torch's arguments looks at images (N, C, H, W), or None where torch's kernel is to compute or to refuse."""
    # exactly a tensor: other types, and torch's transformations of functions, have ways of their own
    if type(input) is not Tensor or torch.compiler.is_compiling() or internals.functorch():
        return None
    if input.device.type != "cpu" or input.dtype not in cpu.dtypes() or input.numel() == 0:
        return None
    kernel, step, pads, spread = (_pair(each) for each in (kernel_size, stride, padding, dilation))
    if kernel is None or step is None or pads is None or spread is None:
        return None
    # a padding that is larger is refused by torch
    if kernel[0] * kernel[1] > MOST_TAPS or min(*kernel, *step, *spread) < 1 or any(not 0 <= p <= k // 2 for p, k in zip(pads, kernel)):
        return None
    height, width = (_extent(*each, ceil_mode) for each in zip(input.shape[2:], kernel, step, pads, spread))
    return Window(kernel, step, pads, spread, (height, width)) if min(height, width) > 0 else None


def max_pool(x: Tensor, window: Window) -> Tensor:
    """The largest number of each window of x (H, W, columns), contiguous; differentiable twice and more."""
    y: Tensor = torch.ops.efcn.max_pool(x, *window)[0]
    return y


_WINDOW = "int[2] kernel, int[2] stride, int[2] padding, int[2] dilation"
_library = torch.library.Library("efcn", "FRAGMENT")
# taps: the number of the tap of its window that each result is from, row by row
_library.define(f"max_pool(Tensor x, {_WINDOW}, int[2] output) -> (Tensor y, Tensor taps)")
_library.define(f"max_pool_backward(Tensor gy, Tensor taps, int[2] input, {_WINDOW}) -> Tensor")


def _max_pool_out(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, output: Any) -> tuple[Tensor, Tensor]:
    shape = (*output, x.size(2))
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.uint8)


def _max_pool(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, output: Any) -> tuple[Tensor, Tensor]:
    y, taps = _max_pool_out(x, kernel, stride, padding, dilation, output)
    cpu.max_pool(y, taps, x, (*kernel, *stride, *padding, *dilation))
    return y, taps


def _backward_out(gy: Tensor, taps: Tensor, input: Any, *_: Any) -> Tensor:
    return gy.new_empty((*input, gy.size(2)))


def _max_pool_backward(gy: Tensor, taps: Tensor, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Tensor:
    gx = _backward_out(gy, taps, input)
    cpu.max_pool_backward(gx, gy, taps, (*kernel, *stride, *padding, *dilation))
    return gx


def _keep_taps(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *looks, _ = inputs
    ctx.save_for_backward(output[1])
    ctx.input, ctx.looks = list(x.shape[:2]), looks


def _differentiate(ctx: Any, gy: Tensor, _: Any) -> tuple[Any, ...]:
    (taps,) = ctx.saved_tensors
    return torch.ops.efcn.max_pool_backward(gy, taps, ctx.input, *ctx.looks), *(None,) * 5


def _keep_more(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, taps, ctx.input, *ctx.looks = inputs
    ctx.save_for_backward(taps)


def _differentiate_again(ctx: Any, ggx: Tensor) -> tuple[Any, ...]:
    (taps,) = ctx.saved_tensors
    pixels, inside = _pixels(taps, ctx.input, *ctx.looks)
    ggy = ggx.reshape(-1, ggx.size(2)).gather(0, pixels.reshape(-1, taps.size(2))).reshape(taps.shape) * inside
    return ggy, *(None,) * 6


def _pixels(taps: Tensor, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Tensor, Tensor]:
    """The number of the pixel that each result is from, and whether there is one: a window may lie on padding alone."""
    tap = taps.long()
    lines, columns = (torch.arange(taps.size(axis), device=taps.device).mul_(stride[axis]).sub_(padding[axis]) for axis in (0, 1))
    h = lines.view(-1, 1, 1) + tap // kernel[1] * dilation[0]
    w = columns.view(1, -1, 1) + tap % kernel[1] * dilation[1]
    inside = (h >= 0) & (h < input[0]) & (w >= 0) & (w < input[1])
    return (h * input[1] + w) * inside, inside


for _name, _compute, _shape, _derivative, _setup in (
    ("max_pool", _max_pool, _max_pool_out, _differentiate, _keep_taps),
    ("max_pool_backward", _max_pool_backward, _backward_out, _differentiate_again, _keep_more),
):
    _library.impl(_name, _compute, "CPU")
    torch.library.register_fake(f"efcn::{_name}", _shape, lib=_library)
    torch.library.register_autograd(f"efcn::{_name}", _derivative, setup_context=_setup, lib=_library)


def _pair(given: Any) -> tuple[int, int] | None:
    """What torch makes of it; None where it has to say."""
    many = (given, given) if isinstance(given, int) else given if isinstance(given, (tuple, list)) else ()
    if len(many) not in (1, 2) or not all(isinstance(each, int) and not isinstance(each, bool) for each in many):
        return None
    return many[0], many[-1]


def _extent(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    # no window begins beyond the image
    return count - 1 if (count - 1) * stride >= size + padding else count
