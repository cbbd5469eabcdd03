"""The incoming weights of one output unit of the first layer, as an image for each network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efcn_kernels.mapping import cnn_to_efcn
from efcn_kernels.nn import LocallyConnected2d


@dataclass(frozen=True)
class Unit:
    """An output unit of the first layer, and its window: the input rows top .. bottom - 1 and columns left .. right - 1.

    `index` is its place among the layer's output features in torch's flatten order (channel, row, column).
    """

    index: int
    channel: int
    row: int
    column: int
    top: int
    bottom: int
    left: int
    right: int


def central_unit(cnn: nn.Module, example: Tensor, rank: int = 0) -> Unit:
    """The unit in the middle of the first convolution's output, of the channel with the largest filter (rank 1: the next largest)."""
    conv = next(module for module in cnn.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        rows, columns = conv(example[:1]).shape[-2:]
        channel = int(conv.weight.flatten(1).norm(dim=1).argsort(descending=True)[rank])
    row, column = rows // 2, columns // 2
    index = (channel * rows + row) * columns + column
    top, bottom = _window(conv, 0, row, example.shape[-2])
    left, right = _window(conv, 1, column, example.shape[-1])
    return Unit(index, channel, row, column, top, bottom, left, right)


def incoming_weights(network: nn.Module, example: Tensor, unit: Unit) -> NDArray[np.float32]:
    """The weights that lead to `unit`, (C, H, W). A CNN is mapped to its eLCN first, so that it has such weights."""
    layer = _first(network)
    if layer is None:
        layer = _first(cnn_to_efcn(network, example, support="local"))
    if layer is None:
        raise ValueError("the network has no convolution: expected one that cnn_to_efcn can map")
    weights = layer.to_dense().detach()[unit.index].reshape(example.shape[1:])
    image: NDArray[np.float32] = weights.cpu().float().numpy()
    return image


def _first(network: nn.Module) -> LocallyConnected2d | None:
    return next((module for module in network.modules() if isinstance(module, LocallyConnected2d)), None)


def _window(conv: nn.Conv2d, axis: int, site: int, extent: int) -> tuple[int, int]:
    start = site * conv.stride[axis] - int(conv.padding[axis])
    return max(start, 0), min(start + (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1, extent)
