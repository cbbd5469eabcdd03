"""The same (N, sites, channels) tensor in every order in which it may lie in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _laid(x: Tensor, *outer_to_inner: int) -> Tensor:
    inverse = sorted(range(x.dim()), key=outer_to_inner.__getitem__)
    return x.permute(outer_to_inner).contiguous().permute(inverse)


def _sliced(x: Tensor) -> Tensor:
    """Every second element of a larger tensor on each axis; what lies between is NaN."""
    n, sites, channels = x.shape
    around = torch.full((2 * n + 1, 2 * sites + 1, 2 * channels + 1), torch.nan, dtype=x.dtype)
    view = around[1::2, 1::2, 1::2]
    view.copy_(x)
    return view


def _sliced_batch_last(x: Tensor) -> Tensor:
    """Unit batch stride, but with a gap of NaN after each run of the batch."""
    n, sites, channels = x.shape
    around = torch.full((sites, channels, n + 3), torch.nan, dtype=x.dtype)
    view = around[:, :, 2 : n + 2].permute(2, 0, 1)
    view.copy_(x)
    return view


def _padded_batch_last(x: Tensor) -> Tensor:
    """Unit batch stride, and a gap of NaN that makes every run of the batch a multiple of 32 numbers: aligned vectors end within it."""
    n, sites, channels = x.shape
    around = torch.full((sites, channels, -(-n // 32) * 32), torch.nan, dtype=x.dtype)
    view = around[:, :, :n].permute(2, 0, 1)
    view.copy_(x)
    return view


def _offset(x: Tensor) -> Tensor:
    """Batch-last, beginning one element into its storage: no vector load is aligned."""
    memory = torch.full((x.numel() + 2,), torch.nan, dtype=x.dtype)
    n, sites, channels = x.shape
    view = memory[1 : 1 + x.numel()].view(sites, channels, n).permute(2, 0, 1)
    view.copy_(x)
    return view


def _sliding(x: Tensor) -> Tensor:
    """Windows that slide along one series, an element from image to image: batch and channel both have the stride one."""
    n, sites, channels = x.shape
    return x.flatten().as_strided((n, sites, channels), (1, channels, 1)) if x.size(0) else x


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "batch-last": lambda x: _laid(x, 1, 2, 0),
    "channel, site, batch": lambda x: _laid(x, 2, 1, 0),
    "channel, batch, site": lambda x: _laid(x, 2, 0, 1),
    "site, batch, channel": lambda x: _laid(x, 1, 0, 2),
    "nchw": lambda x: _laid(x, 0, 2, 1),
    "sliced": _sliced,
    "sliced batch-last": _sliced_batch_last,
    "padded batch-last": _padded_batch_last,
    "offset": _offset,
    "sliding windows": _sliding,
    "one image repeated": lambda x: x[:1].expand_as(x) if x.size(0) else x,
    "one site repeated": lambda x: x[:, :1].expand_as(x),
    "one channel repeated": lambda x: x[:, :, :1].expand_as(x),
    "one number": lambda x: x.flatten()[:1].view(1, 1, 1).expand_as(x) if x.numel() else x,
}


_NAMES: dict[tuple[int, ...], str] = {(0, 1, 2): "contiguous in order", (1, 2, 0): "batch-last", (0, 2, 1): "nchw"}


def in_words(x: Tensor) -> str:
    """Shape and memory order of a tensor of three axes (batch or block first): its axes from the outermost to the innermost, what is odd, strides."""
    strides, offset = x.stride(), x.storage_offset()
    outer_to_inner = tuple(sorted(range(x.dim()), key=lambda axis: (-strides[axis], axis)))
    name = (
        "contiguous"
        if x.is_contiguous()
        else "contiguous in order"
        if outer_to_inner == (0, 1, 2)
        else _NAMES.get(outer_to_inner, f"axes {outer_to_inner} from the outermost")
    )
    spans = [(x.size(axis) - 1) * strides[axis] for axis in range(x.dim())]
    odd = [f"axis {axis} repeated" for axis in range(x.dim()) if x.size(axis) > 1 and strides[axis] == 0]
    if x.numel() and not odd:
        extent = 1 + sum(spans)
        odd += ["with gaps"] if extent > x.numel() else ["overlapping"] if extent < x.numel() else []
    odd += [f"{offset} into its storage"] if offset else []
    return ", ".join([f"{tuple(x.shape)} {name}", *odd, f"strides {tuple(strides)}"])
