"""Weight sharing as a linear map: a convolution's weight to the blocks that it fills, and back to the nearest one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from efcn_kernels.pattern.geometry import ConvGeometry
from efcn_kernels.pattern.layout import BlockLayout


class TapBlocks(NamedTuple):
    """Every live read of a convolution, (T * groups,) each: the block it lies in, its tap, group and output position."""

    block: Tensor
    tap: Tensor
    group: Tensor
    out: Tensor


def tap_blocks(geometry: ConvGeometry, layout: BlockLayout) -> TapBlocks:
    """Where each tap lies in `layout`. Raises ValueError where the layout lacks a block of the convolution."""
    taps, groups = geometry.taps(), geometry.groups
    group = np.tile(np.arange(groups, dtype=np.int32), taps.tap.size)
    out, into, tap = (np.repeat(a, groups) for a in taps)
    wanted = (out.astype(np.int64) * groups + group) * layout.in_sites + into * groups + group
    keys = layout.keys()
    block = np.searchsorted(keys, wanted)
    if wanted.size and (not keys.size or (keys[block.clip(max=keys.size - 1)] != wanted).any()):
        raise ValueError(f"{layout!r} lacks blocks of the convolution {geometry}")
    return TapBlocks(*(torch.from_numpy(np.ascontiguousarray(a, dtype=np.int64)) for a in (block, tap, group, out)))


def unshare(weight: Tensor, geometry: ConvGeometry, layout: BlockLayout) -> Tensor:
    """The blocks (nnzb, Co, Ci) that equal a convolution of `weight` (torch's shape); taps on one block add."""
    per_tap = _by_tap(weight, geometry)
    values = weight.new_zeros((layout.nnzb, *geometry.block))
    where = tap_blocks(geometry, layout)
    # one tap meets each block at most once, so adding tap by tap never writes a block twice in one step
    for k, block, group, _ in _each_tap(geometry, where):
        values[block.to(weight.device)] += per_tap[k, group.to(weight.device)]
    return values


def share(values: Tensor, geometry: ConvGeometry, layout: BlockLayout) -> Tensor:
    """The convolution weight whose `unshare` is nearest to `values` in least squares.

    Where every block holds one tap this is the mean over sites. Taps that never meet a live input become zero.
    """
    where = tap_blocks(geometry, layout)
    total = torch.zeros((geometry.num_taps, geometry.groups, *geometry.block), dtype=torch.float64, device=values.device)
    for k, block, group, _ in _each_tap(geometry, where):
        total[k].index_add_(0, group.to(values.device), values[block.to(values.device)].double())
    gram = torch.from_numpy(_gram(where, geometry)).to(values.device)
    counts = gram.diagonal()
    if torch.equal(gram, torch.diag(counts)):
        per_tap = total / counts.clamp(min=1).view(-1, 1, 1, 1)
    else:
        per_tap = torch.einsum("kl,lgoi->kgoi", torch.linalg.pinv(gram, hermitian=True), total)
    return _from_taps(per_tap, geometry).to(values.dtype)


def weight_shape(geometry: ConvGeometry) -> tuple[int, ...]:
    """The shape of torch's weight for this convolution."""
    co, ci = geometry.block
    if geometry.transposed:
        return (geometry.in_channels, co, *geometry.kernel_size)
    return (geometry.out_channels, ci, *geometry.kernel_size)


def _by_tap(weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """(taps, groups, Co, Ci) from torch's weight."""
    (co, ci), groups = geometry.block, geometry.groups
    if tuple(weight.shape) != weight_shape(geometry):
        raise ValueError(f"weight must have the shape {weight_shape(geometry)}, got {tuple(weight.shape)}")
    if geometry.transposed:
        return weight.reshape(groups, ci, co, -1).permute(3, 0, 2, 1)
    return weight.reshape(groups, co, ci, -1).permute(3, 0, 1, 2)


def _from_taps(per_tap: Tensor, geometry: ConvGeometry) -> Tensor:
    axes = (1, 3, 2, 0) if geometry.transposed else (1, 2, 3, 0)
    return per_tap.permute(axes).reshape(weight_shape(geometry))


def _each_tap(geometry: ConvGeometry, where: TapBlocks) -> list[tuple[int, Tensor, Tensor, Tensor]]:
    order = torch.argsort(where.tap, stable=True)
    counts = torch.bincount(where.tap, minlength=geometry.num_taps).tolist()
    parts = zip(*(field[order].split(counts) for field in (where.block, where.group, where.out)))
    return [(k, *part) for k, part in enumerate(parts)]


def _gram(where: TapBlocks, geometry: ConvGeometry) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(taps, taps): how often two taps meet on one block, in one group."""
    first = where.group == 0
    block, tap = where.block[first].numpy(), where.tap[first].numpy()
    order = np.argsort(block, kind="stable")
    block, tap = block[order], tap[order]
    gram = np.zeros((geometry.num_taps, geometry.num_taps))
    np.add.at(gram, (tap, tap), 1)
    for step in range(1, tap.size):
        met = block[step:] == block[:-step]
        if not met.any():
            break
        np.add.at(gram, (tap[:-step][met], tap[step:][met]), 1)
        np.add.at(gram, (tap[step:][met], tap[:-step][met]), 1)
    return gram
