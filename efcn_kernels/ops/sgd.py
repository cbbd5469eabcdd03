"""A step of SGD in plain torch, every rounding in its place: csrc/cpu/sgd.h does the same operations and has the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from efcn_kernels.ops.dtypes import accumulator
from efcn_kernels.pattern.index import Index

# 14 million weights with momentum and decay, one thread of a busy machine: 131 ms in pieces of 2^16, 127 of 2^15, 217 of 2^12, 565 uncut;
# torch.optim.SGD 114 ms
PIECE = 1 << 16


class SGD(NamedTuple):
    """What a step depends on, as in torch.optim.SGD."""

    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool


def sgd_step(weights: Tensor, momentum_buffer: Tensor | None, gradient: Tensor, rule: SGD) -> None:
    """Update weights and momentum_buffer (None: no momentum) in place; all of one shape and dtype, half types computed in float32.

    g += weight_decay * w; m = momentum * m + g; w -= lr * m, or lr * (g + momentum * m) with nesterov.
    """
    tensors = [weights, gradient] if momentum_buffer is None else [weights, gradient, momentum_buffer]
    if all(t.is_contiguous() for t in tensors):
        # in pieces, for temporaries to be small and to stay in cache
        for pieces in zip(*(t.view(-1).split(PIECE) for t in tensors)):
            _step(rule, *pieces)
    else:
        _step(rule, *tensors)


def step_by_gradient(
    backward_weight: Callable[[Tensor, Tensor, Tensor, Index], None],
    values: Tensor,
    momentum_buffer: Tensor | None,
    gy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    rule: SGD,
    index: Index,
) -> None:
    """bsr_linear_backward_weight_sgd by way of a gradient in memory, for kernels that store gradients only."""
    gradient = torch.empty(values.shape, dtype=values.dtype, device=values.device)
    backward_weight(gradient, gy, x, index)
    sgd_step(values, momentum_buffer, gradient if mask is None else gradient * mask, rule)


def _step(rule: SGD, weights: Tensor, gradient: Tensor, momentum_buffer: Tensor | None = None) -> None:
    wide = accumulator(weights.dtype)
    w, g = weights.to(wide), gradient.to(wide)
    # no alpha=: torch may then fuse product and sum into one rounding
    if rule.weight_decay:
        g = g + w * rule.weight_decay
    if momentum_buffer is not None:
        m = momentum_buffer.to(wide) * rule.momentum + g
        momentum_buffer.copy_(m)
        g = g + m * rule.momentum if rule.nesterov else m
    weights.copy_(w - g * rule.lr)
