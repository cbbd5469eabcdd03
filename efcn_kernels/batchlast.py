"""Pooling that stays batch-last: torch's own kernels on a view of the same memory.

A batch-last image lies as [H][W][C][N], which no 2d kernel of torch expects, so it would be copied on the way in and out.
But pooling does not care which of C and N a plane belongs to: seen as one channels_last image of C * N channels the memory
is just what it wants.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def keep_batch_last(model: nn.Module) -> None:
    """Let the 2d pooling modules of `model` read batch-last images in place; other inputs are not affected.

    The modules keep their type, state, hooks and results. Modules with a forward of their own are left alone.
    """
    for module in model.modules():
        if type(module) in _POOLS and "forward" not in vars(module):
            # setattr: to mypy a method is not to be assigned
            setattr(module, "forward", partial(_through_planes, module))  # noqa: B010


def _through_planes(pool: nn.Module, input: Tensor) -> Any:
    forward: Any = type(pool).forward
    if not _is_batch_last(input):
        return forward(pool, input)
    # by way of (1, H, W, C * N), which leaves the strides by which torch knows a channels_last tensor
    planes = input.permute(2, 3, 1, 0).flatten(2).unsqueeze(0).permute(0, 3, 1, 2)
    output = forward(pool, planes)
    shape = (input.size(1), input.size(0))
    return tuple(_images(part, shape) for part in output) if isinstance(output, tuple) else _images(output, shape)


def _images(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    images: Tensor = planes.permute(0, 2, 3, 1).squeeze(0).unflatten(2, shape).permute(3, 2, 0, 1)
    return images


def _is_batch_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.size(0) > 1 and x.stride(0) == 1 and x.permute(2, 3, 1, 0).is_contiguous()
