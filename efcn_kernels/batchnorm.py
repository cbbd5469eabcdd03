"""Batch normalisation of images that lie batch-last, [sites][C][N], which torch's own would first put into another order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def batch_norm_sites(norm: Any, input: Tensor) -> Tensor:
    """What the module `norm`, an nn.BatchNorm, computes for input (N, C, ...) batch-last in memory; so is the output."""
    # step by step as torch's forward, which has no way to be told of another kernel
    updates = norm.training and norm.track_running_stats
    factor = 0.0 if norm.momentum is None else norm.momentum
    if updates and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            factor = 1.0 / float(norm.num_batches_tracked)
    stats = (norm.running_mean, norm.running_var) if updates or not norm.training else (None, None)
    by_batch = norm.training or (norm.running_mean is None and norm.running_var is None)
    apply: Any = _BatchNormSites.apply
    y: Tensor = apply(input, norm.weight, norm.bias, *stats, by_batch, factor, norm.eps)[0]
    return y


class _BatchNormSites(torch.autograd.Function):
    """torch's kernels on the view (sites, C, N): x, weight, bias, running mean and variance, by_batch, momentum, eps -> y, mean, 1/std.

    A view alone would do but for two things. Of four axes, (sites, C, N, 1), torch 2.13 computes a wrong gradient without a word
    where the incoming one has the strides of a channels_last tensor; three axes cannot be taken for that. And an output that
    is a view would cost the in-place ReLU that often follows three copies in the backward pass.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, bias, mean, var, by_batch, factor, eps = inputs
        y = torch.empty_like(x)
        like = next((t for t in (weight, bias, mean) if t is not None), x)
        used = like.new_empty(0), like.new_empty(0)
        torch.native_batch_norm(_sites(x), weight, bias, mean, var, by_batch, factor, eps, out=(_sites(y), *used))
        return y, *used

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, mean, var, ctx.by_batch, _, ctx.eps = inputs
        # statistics of the batch have been used, and those of the module may change before the backward pass
        stats = (None, None) if ctx.by_batch else (mean, var)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, *stats, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, *used = ctx.saved_tensors
        if grads[0] is None:
            return (None,) * 8
        needs = [*ctx.needs_input_grad[:3]]
        gy, flat = _sites(grads[0]).contiguous(), _sites(x)
        gx, gweight, gbias = torch.ops.aten.native_batch_norm_backward(gy, flat, weight, mean, var, *used, ctx.by_batch, ctx.eps, needs)
        images = gx.unflatten(0, x.shape[2:]).permute(-1, -2, *range(x.dim() - 2)) if needs[0] else None
        return images, gweight, gbias, *(None,) * 5


def _sites(x: Tensor) -> Tensor:
    """(sites, C, N) from (N, C, ...)."""
    return x.permute(*range(2, x.dim()), 1, 0).flatten(0, -3)
