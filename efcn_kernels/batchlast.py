"""Pooling and normalisation that stay batch-last: torch's own kernels on a view of the same memory.

A batch-last image lies as [H][W][C][N], which no kernel of torch expects, so it would be copied on the way in or out. But
pooling does not care which of C and N a plane belongs to: seen as one channels_last image of C * N channels the memory is
just what it wants. And batch normalisation does not care which of batch and space an element belongs to: it takes the
memory as H * W signals of C channels and length N.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.batchnorm import batch_norm_sites

_PLANEWISE = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def keep_batch_last(model: nn.Module) -> None:
    """Let the 2d pooling, upsampling and batch normalisation modules of `model` read batch-last images in place.

    Other inputs are not affected. The modules keep their type, state, hooks and results. Modules of derived types and with a
    forward of their own are left alone.
    """
    for module in model.modules():
        if "forward" in vars(module):
            continue
        # setattr: to mypy a method is not to be assigned
        if type(module) in _PLANEWISE:
            setattr(module, "forward", partial(_through_planes, module))  # noqa: B010
        elif type(module) in _NORMS:
            setattr(module, "forward", partial(_through_sites, module))  # noqa: B010


def _through_planes(pool: nn.Module, input: Tensor) -> Any:
    forward: Any = type(pool).forward
    if input.dim() != 4 or not _is_batch_last(input):
        return forward(pool, input)
    if type(pool) is nn.AdaptiveAvgPool2d and pool.output_size in (1, (1, 1)):
        # torch takes the mean here too, but the gradient of the mean of planes would lie plane by plane
        return input.permute(2, 3, 1, 0).mean((0, 1), keepdim=True).permute(3, 2, 0, 1)
    # by way of (1, H, W, C * N), which leaves the strides by which torch knows a channels_last tensor
    planes = input.permute(2, 3, 1, 0).flatten(2).unsqueeze(0).permute(0, 3, 1, 2)
    output = forward(pool, planes)
    shape = (input.size(1), input.size(0))
    return tuple(_images(part, shape) for part in output) if isinstance(output, tuple) else _images(output, shape)


def _images(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    images: Tensor = planes.permute(0, 2, 3, 1).squeeze(0).unflatten(2, shape).permute(3, 2, 0, 1)
    return images


def _through_sites(norm: Any, input: Tensor) -> Tensor:
    # a compiler fuses the normalisation with what follows and chooses the order itself
    if input.dim() < 3 or torch.compiler.is_compiling() or not _is_batch_last(input):
        plain: Tensor = type(norm).forward(norm, input)
        return plain
    norm._check_input_dim(input)
    return batch_norm_sites(norm, input)


def _is_batch_last(x: Tensor) -> bool:
    return x.size(0) > 1 and x.stride(0) == 1 and x.permute(*range(2, x.dim()), 1, 0).is_contiguous()
