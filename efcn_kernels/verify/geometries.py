"""The layers that are verified, as data: one of each kind of arithmetic that a convolution can ask for."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from efcn_kernels.nn import LOCALLY_CONNECTED, BlockSparse, EFCNLinear
from efcn_kernels.pattern.geometry import ConvGeometry
from efcn_kernels.pattern.layout import BlockLayout


@dataclass(frozen=True)
class Geometry:
    """A convolution at an input size, and the support that its layer has.

    masked: a third of the entries of each block is left out, in an EFCNLinear.
    """

    name: str
    channels: tuple[int, int]
    size: tuple[int, ...]
    kernel: int
    support: str | int = "local"
    masked: bool = False
    transposed: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def conv(self) -> nn.modules.conv._ConvNd:
        """The convolution in float64, with torch's initial weights."""
        kind = getattr(nn, f"Conv{'Transpose' if self.transposed else ''}{len(self.size)}d")
        conv: nn.modules.conv._ConvNd = kind(*self.channels, self.kernel, dtype=torch.float64, **self.options)
        return conv

    def layer(self, conv: nn.modules.conv._ConvNd) -> BlockSparse:
        """The layer with the function of `conv`; where entries are masked out, with those weights at zero."""
        if self.masked:
            geometry = ConvGeometry.of(conv, self.size)  # type: ignore[arg-type]
            whole = BlockLayout.from_support(geometry, self.support)
            keep = np.random.default_rng(0).random((whole.nnzb, *whole.block)) < 2 / 3
            layout = BlockLayout(
                whole.out_sites, whole.in_sites, whole.block, whole.crow, whole.col, mask=keep, groups=whole.groups, channels_first=True
            )
            return EFCNLinear.from_dense(LOCALLY_CONNECTED[len(self.size)].from_conv(conv, self.size).to_dense(), layout, bias=True)
        return LOCALLY_CONNECTED[len(self.size)].from_conv(conv, self.size, self.support)

    def matrix(self, conv: nn.modules.conv._ConvNd, *, absolute: bool = False) -> torch.Tensor:
        """(out_features, in_features): torch's own convolution of one-hot images, without bias, with |weights| where `absolute`."""
        features = self.channels[0] * int(np.prod(self.size))
        images = torch.eye(features, dtype=torch.float64).unflatten(1, (self.channels[0], *self.size))
        linear = copy.deepcopy(conv)
        linear.bias = None
        if absolute:
            linear.weight.data.abs_()
        with torch.no_grad(), warnings.catch_warnings():
            # torch says that it copies the image where padding='same' differs between the sides
            warnings.simplefilter("ignore")
            return torch.Tensor.t(linear(images).flatten(1))


GEOMETRIES = (
    Geometry("1d 5->7 k3", (5, 7), (23,), 3, options={"padding": 1}),
    Geometry("3d 4->6 k3", (4, 6), (4, 5, 3), 3, options={"padding": 1}),
    Geometry("3->64 k4 s2", (3, 64), (10, 10), 4, options={"stride": 2, "padding": 2}),
    Geometry("32->32 k3", (32, 32), (6, 6), 3, options={"padding": 1}),
    Geometry("17->29 k3", (17, 29), (6, 5), 3, options={"padding": 1}),
    Geometry("16->24 k5 s2", (16, 24), (9, 8), 5, options={"stride": 2, "padding": 2}),
    Geometry("6->10 k3 dilated 2", (6, 10), (8, 7), 3, options={"dilation": 2, "padding": 2}),
    Geometry("12->18 k3, 3 groups", (12, 18), (7, 6), 3, options={"groups": 3, "padding": 1}),
    Geometry("depthwise 9 k3", (9, 9), (8, 8), 3, options={"groups": 9, "padding": 1}),
    Geometry("circular 5->8 k3", (5, 8), (6, 7), 3, options={"padding": 1, "padding_mode": "circular"}),
    Geometry("reflect 5->8 k5", (5, 8), (6, 7), 5, options={"padding": 2, "padding_mode": "reflect"}),
    Geometry("replicate 5->8 k3", (5, 8), (6, 7), 3, options={"padding": 1, "padding_mode": "replicate"}),
    Geometry("same 4->6 k4", (4, 6), (7, 6), 4, options={"padding": "same"}),
    Geometry("transposed 6->5 k3 s2", (6, 5), (5, 4), 3, transposed=True, options={"stride": 2, "padding": 1, "output_padding": 1}),
    # its border outputs read nothing and every second pixel is read by nobody
    Geometry("8->8 k1 s2 p1", (8, 8), (7, 7), 1, options={"stride": 2, "padding": 1}),
    Geometry("1->1 k3", (1, 1), (9, 9), 3, options={"padding": 1}),
    Geometry("halo 1, 7->9 k3", (7, 9), (6, 6), 3, support=1, options={"padding": 1}),
    Geometry("full, 5->6 k3", (5, 6), (6, 5), 3, support="full", options={"padding": 1}),
    Geometry("masked 8->12 k3", (8, 12), (6, 5), 3, masked=True, options={"padding": 1}),
)
