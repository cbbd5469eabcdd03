"""Pooling that reads batch-last images in place: subclasses of torch's modules with the same arguments, state and results.

A batch-last image lies as [H][W][C][N], which no kernel of torch expects, so torch copies it on the way in or out. But pooling does not care
which of C and N a plane belongs to: seen as one channels_last image of C * N channels the memory is just what torch's kernels read.
Max-pooling of small windows on the CPU is ours (`ops.max_pool`). Images in another memory order take torch's own way.

>>> import torch
>>> from efcn_kernels import batch_last
>>> from efcn_kernels.nn import AvgPool2d
>>> pool, images = AvgPool2d(2), batch_last(torch.randn(4, 3, 8, 8))
>>> torch.equal(pool(images), torch.nn.AvgPool2d(2)(images)), pool(images).stride(0)
(True, 1)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from efcn_kernels.ops.max_pool import max_pool, window_of
from efcn_kernels.ops.memory import owned
from efcn_kernels.pattern.sites import batch_innermost, batch_outermost, from_planes, is_batch_last, planes


class MaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d whose batch-last input (N, C, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) -> (N, C, H_out, W_out), and the indices where `return_indices` is set."""
        if not _is_batch_last_image(input):
            return super().forward(input)
        looks = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        if not self.return_indices and (window := window_of(input, *looks)) is not None:
            return owned(from_planes(max_pool(planes(input), window), input.shape))
        return _through_planes(super().forward, input)


class AvgPool2d(nn.AvgPool2d):
    """nn.AvgPool2d whose batch-last input (N, C, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H_out, W_out)."""
        pooled: Tensor = _through_planes(super().forward, input) if _is_batch_last_image(input) else super().forward(input)
        return pooled


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d whose batch-last input (N, C, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, *output_size)."""
        if not _is_batch_last_image(input):
            return super().forward(input)
        if self.output_size in (1, (1, 1)):
            # torch takes the mean here too, but the gradient of the mean of planes would lie plane by plane
            return owned(batch_outermost(batch_innermost(input).mean((0, 1), keepdim=True)))
        pooled: Tensor = _through_planes(super().forward, input)
        return pooled


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """nn.AdaptiveMaxPool2d whose batch-last input (N, C, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) -> (N, C, *output_size), and the indices where `return_indices` is set."""
        return _through_planes(super().forward, input) if _is_batch_last_image(input) else super().forward(input)


class Upsample(nn.Upsample):
    """nn.Upsample whose batch-last input (N, C, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H_out, W_out)."""
        larger: Tensor = _through_planes(super().forward, input) if _is_batch_last_image(input) else super().forward(input)
        return larger


def _is_batch_last_image(input: Tensor) -> bool:
    return input.dim() == 4 and is_batch_last(input)


def _through_planes(forward: Callable[[Tensor], Any], input: Tensor) -> Any:
    """What `forward` makes of the image of C * N planes, each result as images again."""
    # by way of (1, H, W, C * N), which leaves the strides by which torch knows a channels_last tensor
    output = forward(planes(input).unsqueeze(0).permute(0, 3, 1, 2))
    return tuple(_images(part, input) for part in output) if isinstance(output, tuple) else _images(output, input)


def _images(output: Tensor, input: Tensor) -> Tensor:
    return owned(from_planes(output.permute(0, 2, 3, 1).squeeze(0), input.shape))
