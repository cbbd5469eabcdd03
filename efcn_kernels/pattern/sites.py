"""Images, sites and dense matrices: the one place for how they are views of each other.

A site of a layer with groups is (position, group), the group varying fastest: so a batch-last image is a plain view of its sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from efcn_kernels.pattern.geometry import Ints

if TYPE_CHECKING:
    from efcn_kernels.pattern.layout import BlockLayout


def with_groups(out: Ints, into: Ints, groups: int) -> tuple[Ints, Ints]:
    """Pairs of positions as pairs of sites, one for each group; a group reads itself only."""
    if groups == 1:
        return out, into
    group = np.arange(groups, dtype=np.int32)
    return (out[:, None] * groups + group).reshape(-1), (into[:, None] * groups + group).reshape(-1)


def to_sites(images: Tensor, groups: int) -> Tensor:
    """(N, C, positions) -> (N, sites, channels of a group)."""
    if groups == 1:
        return images.transpose(1, 2)
    n, channels, positions = images.shape
    return images.view(n, groups, channels // groups, positions).permute(0, 3, 1, 2).flatten(1, 2)


def images_to_sites(images: Tensor, groups: int) -> Tensor:
    """(N, C, *size) -> (N, sites, channels of a group), for tensors that nobody differentiates or transforms."""
    if groups == 1 and images.is_contiguous():
        # one view in place of two: each takes 2 us, a small layer 10
        n, channels, *size = images.shape
        positions = prod(size)
        return images.as_strided((n, positions, channels), (channels * positions, 1, positions))
    return to_sites(images.flatten(2), groups)


def to_images(sites: Tensor, groups: int) -> Tensor:
    """(N, sites, channels of a group) -> (N, C, positions)."""
    if groups == 1:
        return sites.transpose(1, 2)
    n, count, channels = sites.shape
    return sites.view(n, count // groups, groups, channels).permute(0, 2, 3, 1).flatten(1, 2)


def filter_bias_to_sites(bias: Tensor, sites: int, groups: int) -> Tensor:
    """A convolution's bias (C,) -> (P, Co): every position has its filter's."""
    return bias.reshape(groups, -1).repeat(sites // groups, 1)


def site_bias_to_filter(bias: Tensor, groups: int) -> Tensor:
    """(P, Co) -> the nearest convolution's bias (C,) in float64: the mean over positions."""
    return bias.double().view(-1, groups, bias.size(1)).mean(dim=0).flatten()


def feature_bias_to_sites(bias: Tensor, layout: BlockLayout) -> Tensor:
    """A bias (out_features,) in the layout's order of features -> (P, Co)."""
    if not layout.channels_first:
        return bias.reshape(layout.out_sites, layout.block[0])
    return to_sites(bias.reshape(1, layout.groups * layout.block[0], -1), layout.groups).squeeze(0)


def dense_blocks(weight: Tensor, layout: BlockLayout) -> Tensor:
    """A matrix (out_features, in_features) as (P, Q, Co, Ci), a view where there are no groups."""
    (co, ci), groups = layout.block, layout.groups
    out, into = layout.out_sites // groups, layout.in_sites // groups
    if layout.channels_first:
        blocks = weight.reshape(groups, co, out, groups, ci, into).permute(2, 0, 5, 3, 1, 4)
    else:
        blocks = weight.reshape(out, groups, co, into, groups, ci).permute(0, 1, 3, 4, 2, 5)
    return blocks.flatten(0, 1).flatten(1, 2)


def dense_matrix(blocks: Tensor, layout: BlockLayout) -> Tensor:
    """(P, Q, Co, Ci) -> (out_features, in_features) in the layout's order of features."""
    (co, ci), groups = layout.block, layout.groups
    split = blocks.transpose(1, 2).reshape(layout.out_sites // groups, groups, co, layout.in_sites // groups, groups, ci)
    if layout.channels_first:
        split = split.permute(1, 2, 0, 4, 5, 3)
    return split.reshape(layout.out_features, layout.in_features)


def batch_innermost(images: Tensor) -> Tensor:
    """(N, C, *size) -> (*size, C, N): how a batch-last image lies in memory."""
    return images.permute(*range(2, images.dim()), *range(1, min(images.dim(), 2)), 0)


def batch_outermost(memory: Tensor) -> Tensor:
    """(*size, C, N) -> (N, C, *size): the inverse of `batch_innermost`."""
    return memory.permute(-1, *((-2,) if memory.dim() > 1 else ()), *range(memory.dim() - 2))


def is_batch_last(images: Tensor) -> bool:
    """Whether several images (N, C, *size) lie as (*size, C, N) in memory, without gaps."""
    return images.size(0) > 1 and images.stride(0) == 1 and batch_innermost(images).is_contiguous()


def planes(images: Tensor) -> Tensor:
    """Batch-last images (N, C, H, W) -> (H, W, C * N), a view."""
    return batch_innermost(images).flatten(-2)


def from_planes(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """(H, W, C * N) -> (N, C, H, W), a view; `shape` begins with N and C."""
    return batch_outermost(rows.unflatten(-1, (shape[1], shape[0])))
