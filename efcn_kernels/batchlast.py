"""Pooling that stays batch-last: torch's own kernels on a view of the same memory.

A batch-last image lies as [H][W][C][N], which no 2d kernel of torch expects, so it would be copied on the way in and out.
But pooling does not care which of C and N a plane belongs to: seen as one channels_last image of C * N channels the memory
is just what it wants.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class _Planes(tuple[Any, ...]):
    """Positional arguments whose image was replaced by a view, and the shape of the image."""

    shape: tuple[int, ...]

    @classmethod
    def of(cls, view: Tensor, rest: tuple[Any, ...], shape: tuple[int, ...]) -> _Planes:
        args = cls((view, *rest))
        args.shape = shape
        return args


def keep_batch_last(model: nn.Module) -> None:
    """Let the 2d pooling modules of `model` read batch-last images in place; other inputs are not affected.

    The modules keep their type, state and results; this adds forward hooks to them.
    """
    for module in model.modules():
        if type(module) in _POOLS:
            module.register_forward_pre_hook(_planes_in)
            module.register_forward_hook(_planes_out)


def _is_batch_last(args: tuple[Any, ...]) -> bool:
    x = args[0] if args else None
    return isinstance(x, Tensor) and x.dim() == 4 and x.size(0) > 1 and x.stride(0) == 1 and x.permute(2, 3, 1, 0).is_contiguous()


def _planes_in(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not _is_batch_last(args):
        return args
    x: Tensor = args[0]
    # by way of (1, H, W, C * N), which leaves the strides by which torch knows a channels_last tensor
    planes = x.permute(2, 3, 1, 0).flatten(2).unsqueeze(0).permute(0, 3, 1, 2)
    return _Planes.of(planes, args[1:], tuple(x.shape))


def _planes_out(_module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if not isinstance(args, _Planes):
        return output
    if isinstance(output, tuple):
        return tuple(_planes_back(part, args.shape) for part in output)
    return _planes_back(output, args.shape)


def _planes_back(output: Tensor, shape: tuple[int, ...]) -> Tensor:
    images: Tensor = output.permute(0, 2, 3, 1).squeeze(0).unflatten(2, (shape[1], shape[0])).permute(3, 2, 0, 1)
    return images
