"""Max-pooling of batch-last images by csrc/cpu: the values and gradients of torch's, with a byte for each maximum in place of an int64 index."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from efcn_kernels.ops import cpu

# of a window at most, as in csrc/cpu/problem.h
_MOST_TAPS = 16


class Window(NamedTuple):
    """How a pooling module looks at an image, height before width; `output` is the size of what it makes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    output: tuple[int, int]

    @property
    def extents(self) -> tuple[int, ...]:
        """What the kernels want to know."""
        return (*self.kernel, *self.stride, *self.padding, *self.dilation)


def window_of(pool: nn.MaxPool2d, input: Tensor) -> Window | None:
    """How `pool` looks at images (N, C, H, W), or None where torch's kernel is to be asked, be it to refuse what cannot be."""
    # exactly a tensor: other types, and torch's transformations of functions, have ways of their own
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if type(input) is not Tensor or transformed:
        return None
    if input.device.type != "cpu" or input.dtype not in cpu.DTYPES or cpu.missing() or pool.return_indices or input.numel() == 0:
        return None
    kernel, stride, padding, dilation = (_pair(each) for each in (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    # a padding that is larger is refused by torch
    if kernel[0] * kernel[1] > _MOST_TAPS or min(*kernel, *stride, *dilation) < 1 or any(not 0 <= p <= k // 2 for p, k in zip(padding, kernel)):
        return None
    height, width = (_extent(*each, pool.ceil_mode) for each in zip(input.shape[2:], kernel, stride, padding, dilation))
    return Window(kernel, stride, padding, dilation, (height, width)) if min(height, width) > 0 else None


def max_pool(x: Tensor, window: Window) -> Tensor:
    """The largest number of each window of x (H, W, columns), contiguous; differentiable twice and more."""
    y: Tensor = _MaxPool.apply(x, window)  # type: ignore[no-untyped-call]
    return y


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        y = x.new_empty((*window.output, x.size(2)))
        taps = x.new_empty(y.shape, dtype=torch.uint8)
        torch.ops.efcn_cpu.max_pool(y, taps, x, *window.extents)
        ctx.save_for_backward(taps)
        ctx.size, ctx.window = x.shape, window
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        (taps,) = ctx.saved_tensors
        return _MaxPoolBackward.apply(gy.contiguous(), taps, ctx.size, ctx.window), None  # type: ignore[no-untyped-call]


class _MaxPoolBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gy: Tensor, taps: Tensor, size: torch.Size, window: Window) -> Tensor:
        gx = gy.new_empty(size)
        torch.ops.efcn_cpu.max_pool_backward(gx, gy, taps, *window.extents)
        ctx.save_for_backward(taps)
        ctx.window = window
        return gx

    @staticmethod
    def backward(ctx: Any, ggx: Tensor) -> Any:
        (taps,) = ctx.saved_tensors
        rows = ggx.flatten(0, 1)
        return rows.gather(0, _pixels(taps, ctx.window, ggx.size(1)).flatten(0, 1)).view(taps.shape), None, None, None


def _pixels(taps: Tensor, window: Window, width: int) -> Tensor:
    """The number of the pixel that each maximum is from."""
    tap = taps.long()
    lines, columns = (
        torch.arange(count, device=taps.device).mul_(stride).sub_(padding)
        for count, stride, padding in zip(window.output, window.stride, window.padding)
    )
    h = lines.view(-1, 1, 1) + tap // window.kernel[1] * window.dilation[0]
    w = columns.view(1, -1, 1) + tap % window.kernel[1] * window.dilation[1]
    return h * width + w


def _pair(given: int | tuple[int, ...]) -> tuple[int, int]:
    return (given, given) if isinstance(given, int) else (given[0], given[-1])


def _extent(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    # no window begins beyond the image
    return count - 1 if (count - 1) * stride >= size + padding else count
