"""Pooling and normalisation that stay batch-last: max-pooling by csrc/cpu, the rest by torch's own kernels on a view of the same memory.

A batch-last image lies as [H][W][C][N], which no kernel of torch expects, so it would be copied on the way in or out. But
pooling does not care which of C and N a plane belongs to: seen as one channels_last image of C * N channels the memory is
just what it wants. And normalisation does not care which of batch and space an element belongs to: it takes the memory as
H * W signals of C channels and length N.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.ops.max_pool import max_pool, window_of

_PLANEWISE = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def keep_batch_last(model: nn.Module) -> None:
    """Let the 2d pooling, upsampling and batch normalisation modules of `model` read batch-last images in place.

    Other inputs are not affected. The modules keep their type, state, hooks and results. Modules of derived types and those with
    a forward of their own are left alone.
    """
    for module in model.modules():
        if "forward" in vars(module):
            continue
        # setattr: to mypy a method is not to be assigned
        if type(module) in _PLANEWISE:
            setattr(module, "forward", partial(_through_planes, module))  # noqa: B010
        elif type(module) in _NORMS:
            setattr(module, "forward", partial(_through_sites, module))  # noqa: B010


def owned(view: Tensor) -> Tensor:
    """The same tensor, but no view to autograd, which would copy its whole base around in-place code such as a ReLU.

    Only for a view of a fresh tensor that nobody else holds or has saved for a backward pass.
    """
    apply: Any = _Owned.apply
    # a compiler has no in-place code
    same: Tensor = view if torch.compiler.is_compiling() else apply(view)
    return same


def _through_planes(pool: nn.Module, input: Tensor) -> Any:
    forward: Any = type(pool).forward
    if input.dim() != 4 or not _is_batch_last(input):
        return forward(pool, input)
    if type(pool) is nn.AdaptiveAvgPool2d and pool.output_size in (1, (1, 1)):
        # torch takes the mean here too, but the gradient of the mean of planes would lie plane by plane
        return owned(input.permute(2, 3, 1, 0).mean((0, 1), keepdim=True).permute(3, 2, 0, 1))
    if type(pool) is nn.MaxPool2d and (window := window_of(pool, input)) is not None:
        return _laid(max_pool(input.permute(2, 3, 1, 0).flatten(2), window), (input.size(1), input.size(0)))
    # by way of (1, H, W, C * N), which leaves the strides by which torch knows a channels_last tensor
    planes = input.permute(2, 3, 1, 0).flatten(2).unsqueeze(0).permute(0, 3, 1, 2)
    output = forward(pool, planes)
    shape = (input.size(1), input.size(0))
    return tuple(_images(part, shape) for part in output) if isinstance(output, tuple) else _images(output, shape)


def _images(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    return _laid(planes.permute(0, 2, 3, 1).squeeze(0), shape)


def _laid(rows: Tensor, shape: tuple[int, int]) -> Tensor:
    """(H, W, C * N) as images."""
    return owned(rows.unflatten(2, shape).permute(3, 2, 0, 1))


def _through_sites(norm: nn.Module, input: Tensor) -> Tensor:
    forward: Any = type(norm).forward
    # a compiler fuses the normalisation with what follows and chooses the order itself
    if input.dim() < 3 or torch.compiler.is_compiling() or not _is_batch_last(input):
        plain: Tensor = forward(norm, input)
        return plain
    order = (*range(2, input.dim()), 1, 0)
    # (sites, C, N), and axes of size 1 up to the number that the module expects
    sites = input.permute(order).flatten(0, -3)
    normalised = forward(norm, sites.view(*sites.shape, *[1] * (input.dim() - 3)))
    apply: Any = _Contiguous.apply
    images = apply(normalised).view(*input.shape[2:], input.size(1), input.size(0)).permute(-1, -2, *range(input.dim() - 2))
    return owned(images)


def _is_batch_last(x: Tensor) -> bool:
    return x.size(0) > 1 and x.stride(0) == 1 and x.permute(*range(2, x.dim()), 1, 0).is_contiguous()


class _Owned(torch.autograd.Function):
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


class _Contiguous(_Owned):
    """The identity, with a contiguous gradient.

    torch 2.13 computes a wrong gradient of batch_norm without a word where its input is contiguous and the incoming gradient has
    the strides of a channels_last tensor, (C * N, 1, C, 1) here.
    """

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()
