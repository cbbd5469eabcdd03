"""bsr_linear entered into autograd once, on sites or on feature maps; the way of every ordinary call.

What transforms programs (torch.compile, torch.func, tracers, other kinds of tensors) sees the operators of `schema` instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from efcn_kernels.ops import internals, passes, schema
from efcn_kernels.ops.fused import Claim
from efcn_kernels.ops.memory import empty_batch_last, empty_images_like_order
from efcn_kernels.pattern.index import Index
from efcn_kernels.pattern.sites import images_to_sites, to_images, to_sites


class Call(NamedTuple):
    """What one call depends on beside its tensors.

    claim: of an optimizer on the weights, or None. groups: of feature maps (N, C, *size), whose result is (N, C', *output_size); 0: of sites.
    """

    pattern: Index
    backend: str
    claim: Claim | None = None
    groups: int = 0
    output_size: tuple[int, ...] = ()


class BsrLinear(torch.autograd.Function):
    """y (N, P, Co) of x (N, Q, Ci), or (N, C', *output_size) of (N, C, *input_size); values (nnzb, Co, Ci), bias (P, Co) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, call: Call) -> Tensor:
        """The pass on the backend that takes it; the mask of the index included."""
        ctx.save_for_backward(x, values)
        ctx.call, ctx.use = call, None if call.claim is None else call.claim.use()
        return forward(x, values, bias, call)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        """Gradients of x, values and bias; a claimed weight may be stepped instead of getting one."""
        call: Call = ctx.call
        needs_x, needs_values, needs_bias, _ = ctx.needs_input_grad
        index, backend = call.pattern, call.backend
        if call.claim is not None and needs_values:
            needs_values = call.claim.wants_gradient(ctx.use, ctx.next_functions[1][0])
        x, values = ctx.saved_tensors
        # a graph of this backward, or tensors that are not plain ones, are for the operators that torch knows
        plain = type(gy) is Tensor and not torch.is_grad_enabled() and not internals.transforming()
        ops: Any = passes if plain else schema
        sites, sources = (_sites(images, call) if plain else _differentiable_sites(images, call) for images in (gy, x))
        gx = gvalues = None
        # first, for a step below changes the weights
        if needs_x:
            gx = ops.bsr_linear_backward_input(sites, index.masked(values), index, backend)
            if call.groups:
                gx = to_images(gx, call.groups).reshape(x.shape)
        gbias = passes.sum_over_batch(sites) if needs_bias else None
        if needs_values and not (call.claim is not None and call.claim.step(ctx.use, sites, sources, index, backend)):
            gvalues = index.masked(ops.bsr_linear_backward_weight(sites, sources, index, backend))
        if call.claim is not None:
            call.claim.finish(ctx.use)
        return gx, gvalues, gbias, None


def forward(x: Tensor, values: Tensor, bias: Tensor | None, call: Call) -> Tensor:
    """The call without autograd."""
    values = call.pattern.masked(values)
    if not call.groups:
        return passes.bsr_linear(x, values, bias, call.pattern, call.backend)
    shape = (x.size(0), call.groups * values.size(1), *call.output_size)
    # no view of another tensor: code that works in place on a view costs a copy of its base
    y = empty_images_like_order(x, shape) if call.groups == 1 else empty_batch_last(x, shape)
    passes.bsr_linear(_sites(x, call), values, bias, call.pattern, call.backend, out=_sites(y, call))
    return y


def _differentiable_sites(images: Tensor, call: Call) -> Tensor:
    return to_sites(images.flatten(2), call.groups) if call.groups else images


def _sites(images: Tensor, call: Call) -> Tensor:
    return images_to_sites(images, call.groups) if call.groups else images
