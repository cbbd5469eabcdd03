"""Batch normalisation that reads batch-last images in place: subclasses of torch's modules with the same arguments, state and results.

Normalisation does not care which of batch and space an element belongs to: it takes the memory of batch-last images as H * W signals
of C channels and length N. Under torch.compile the compiler fuses it with what follows and chooses the order itself.

>>> import torch
>>> from efcn_kernels import batch_last
>>> from efcn_kernels.nn import BatchNorm2d
>>> norm, images = BatchNorm2d(3), batch_last(torch.randn(4, 3, 8, 8))
>>> norm(images).stride(0), isinstance(norm, torch.nn.BatchNorm2d)
(1, True)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.ops.memory import Same, owned
from efcn_kernels.pattern.sites import batch_innermost, batch_outermost, is_batch_last


class BatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d whose batch-last input (N, C, L) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (N, C) -> the same shape."""
        return _through_signals(super().forward, input) if _in_place(input) else super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose batch-last input (N, C, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return _through_signals(super().forward, input) if _in_place(input) else super().forward(input)


class BatchNorm3d(nn.BatchNorm3d):
    """nn.BatchNorm3d whose batch-last input (N, C, D, H, W) is read, and output written, in place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, D, H, W) -> the same shape."""
        return _through_signals(super().forward, input) if _in_place(input) else super().forward(input)


def _in_place(input: Tensor) -> bool:
    return input.dim() >= 3 and not torch.compiler.is_compiling() and is_batch_last(input)


def _through_signals(forward: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    memory = batch_innermost(input)
    # (sites, C, N), and axes of size 1 up to the number that the module expects
    signals = memory.flatten(0, -3)
    normalised = forward(signals.view(*signals.shape, *[1] * (input.dim() - 3)))
    apply: Any = _ContiguousGradient.apply
    return owned(batch_outermost(apply(normalised).view(memory.shape)))


class _ContiguousGradient(Same):
    """The identity, with a contiguous gradient.

    torch 2.13 silently computes a wrong gradient of batch_norm where its input is contiguous and the incoming gradient has
    the strides of a channels_last tensor, (C * N, 1, C, 1) here.
    """

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()
