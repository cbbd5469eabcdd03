"""Layers: the equivalent fully-connected layer of a convolution, and torch's missing locally connected layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from efcn_kernels.nn.base import BlockSparse
from efcn_kernels.nn.pooling import owned
from efcn_kernels.ops import batch_last
from efcn_kernels.pattern.geometry import ConvGeometry, Padding, PerAxis
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sharing import share, tap_blocks, unshare
from efcn_kernels.pattern.validation import integer

_LC = TypeVar("_LC", bound="_LocallyConnected")
_Conv = nn.modules.conv._ConvNd
_CONVS: dict[tuple[int, bool], type[_Conv]] = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}


class EFCNLinear(BlockSparse):
    """nn.Linear with a block-sparse weight: y = x @ W^T + b, only the stored blocks of W exist.

    Args:
        in_features, out_features: must equal the layout's Q * Ci and P * Co.
        layout: which blocks exist. Layouts of convolutions order features as torch flattens (C, H, W).
        bias: whether to add a learned bias, one per output.

    Shape: x (..., in_features) -> (..., out_features).
    Raises ValueError where the sizes do not fit the layout.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        layout: BlockLayout,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if (in_features, out_features) != (layout.in_features, layout.out_features):
            raise ValueError(
                f"in_features and out_features must be {layout.in_features} and {layout.out_features}, got {in_features} and {out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        self._set_up(layout, bias, device, dtype)
        self.reset_parameters()

    @classmethod
    def from_conv(cls, conv: _Conv, input_size: int | Sequence[int], support: Any = "local") -> EFCNLinear:
        """The layer with the same function as `conv` on flattened (C, *input_size) images; off-local weights start at zero."""
        geometry = ConvGeometry.of(conv, _sizes(input_size, len(conv.kernel_size)))  # type: ignore[arg-type]
        layer = cls._blank(BlockLayout.from_support(geometry, support), conv.bias is not None, conv.weight)
        _embed(layer, conv, geometry)
        return layer

    @classmethod
    def from_linear(cls, linear: nn.Linear, layout: BlockLayout) -> EFCNLinear:
        """`linear` with its weight cut down to the layout."""
        layer = cls.from_dense(linear.weight, layout, bias=linear.bias is not None)
        if linear.bias is not None and layer.bias is not None:
            grid = linear.bias.detach().unsqueeze(0)
            layer.bias.data.copy_(_bias_to_sites(grid, layout))
            layer.bias.requires_grad_(linear.bias.requires_grad)
        return layer.train(linear.training)

    @classmethod
    def from_dense(cls, weight: Tensor, layout: BlockLayout, bias: bool = False) -> EFCNLinear:
        """The stored blocks of `weight` (out_features, in_features); a bias starts at zero."""
        layer = cls._blank(layout, bias, weight)
        layer._fill_from_dense(weight)
        return layer

    @classmethod
    def _blank(cls, layout: BlockLayout, bias: bool, like: Tensor) -> EFCNLinear:
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.in_features, layer.out_features = layout.in_features, layout.out_features
        layer._set_up(layout, bias, like.device, like.dtype)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        # frozen like a frozen parameter; numbers that are no parameter say nothing of that
        for parameter in layer.parameters():
            parameter.requires_grad_(like.requires_grad or not isinstance(like, nn.Parameter))
        return layer

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.size(-1) != self.in_features:
            raise ValueError(f"x must have the shape (..., in_features) = (..., {self.in_features}), got {tuple(x.shape)}")
        layout = self.layout
        flat = x.reshape(x.shape[:-1].numel(), self.in_features)
        if layout.channels_first:
            y = self._map(flat.unflatten(1, (-1, layout.in_sites // layout.groups)))
        else:
            y = self._map(flat.unflatten(1, (-1, layout.groups * layout.block[1])).transpose(1, 2)).transpose(1, 2)
        return owned(y.reshape(*x.shape[:-1], self.out_features))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, layout={self.layout!r}"


class _LocallyConnected(BlockSparse):
    """A convolution without weight sharing; see the subclasses."""

    axes: ClassVar[int]
    geometry: ConvGeometry
    # whether to hand out batch-last outputs whatever the memory order of the input
    batch_last: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: int | Sequence[int],
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        support: Any = "local",
    ) -> None:
        super().__init__()
        size = _sizes(input_size, self.axes)
        self.geometry = ConvGeometry.make(in_channels, out_channels, size, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._set_up(BlockLayout.from_support(self.geometry, support), bias, device, dtype)
        self.reset_parameters()

    @classmethod
    def from_conv(cls: type[_LC], conv: _Conv, input_size: int | Sequence[int], support: Any = "local") -> _LC:
        """The layer with the same function as `conv` (also a transposed one) at `input_size`; off-local weights start at zero."""
        geometry = ConvGeometry.of(conv, _sizes(input_size, cls.axes))  # type: ignore[arg-type]
        layer = cls._blank(geometry, BlockLayout.from_support(geometry, support), conv.bias is not None, conv.weight)
        _embed(layer, conv, geometry)
        return layer

    @classmethod
    def from_lc(
        cls: type[_LC],
        weight: Tensor,
        bias: Tensor | None,
        input_size: int | Sequence[int],
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
    ) -> _LC:
        """From the class that PyTorch's forum passes around: weight (1, Co, Ci, *output_size, taps), bias (1, Co, *output_size)."""
        size = _sizes(input_size, cls.axes)
        if weight.dim() != 4 + cls.axes:
            raise ValueError(f"weight must have the shape (1, Co, Ci, *output_size, taps), {4 + cls.axes} axes, got {tuple(weight.shape)}")
        geometry = ConvGeometry.make(weight.size(2), weight.size(1), size, kernel_size, stride, padding, dilation)
        wanted = (1, weight.size(1), weight.size(2), *geometry.output_size, geometry.num_taps)
        if tuple(weight.shape) != wanted:
            raise ValueError(f"weight must have the shape (1, Co, Ci, *output_size, taps) = {wanted}, got {tuple(weight.shape)}")
        if bias is not None and tuple(bias.shape) not in ((1, wanted[1], *geometry.output_size), (wanted[1], *geometry.output_size)):
            raise ValueError(f"bias must have the shape (1, Co, *output_size) = {(1, wanted[1], *geometry.output_size)}, got {tuple(bias.shape)}")
        layer = cls._blank(geometry, BlockLayout.from_conv(geometry), bias is not None, weight)
        where = tap_blocks(geometry, layer.layout)
        by_read = weight.detach().flatten(3, -2)[0].permute(2, 3, 0, 1)
        layer.values.data.zero_().index_add_(0, where.block.to(weight.device), by_read[where.out, where.tap])
        if bias is not None and layer.bias is not None:
            layer.bias.data.copy_(bias.detach().reshape(wanted[1], -1).T)
        return layer

    def to_lc(self) -> tuple[Tensor, Tensor | None]:
        """(weight (1, Co, Ci, *output_size, taps), bias (1, Co, *output_size)) as the forum's class holds them; dead taps are zero.

        Raises ValueError where that format cannot hold this layer: groups, off-local weights, several taps on one block.
        """
        where = tap_blocks(self.geometry, self.local_layout)
        if self.geometry.groups > 1 or self.off_values is not None or where.block.unique().numel() != where.block.numel():
            raise ValueError(f"the (1, Co, Ci, *output_size, taps) format holds neither groups nor off-local weights nor shared blocks: {self}")
        geometry = self.geometry
        (co, ci), taps = geometry.block, geometry.num_taps
        by_read = self.values.new_zeros((self.layout.out_sites, taps, co, ci))
        by_read[where.out, where.tap] = self.values.detach()[where.block.to(self.values.device)]
        weight = by_read.permute(2, 3, 0, 1).reshape(1, co, ci, *geometry.output_size, taps)
        bias = None if self.bias is None else self.bias.detach().T.reshape(1, co, *geometry.output_size)
        return weight, bias

    def to_conv(self) -> _Conv:
        """The nearest convolution in least squares: the mean over sites of each tap; off-local weights are dropped.

        Raises ValueError where torch has no such convolution (padding that differs between the two sides).
        """
        geometry = self.geometry
        if any(before != after for before, after in geometry.padding):
            same = ConvGeometry.make(1, 1, geometry.input_size, geometry.kernel_size, 1, "same", geometry.dilation).padding
            if geometry.padding != same or set(geometry.stride) != {1}:
                raise ValueError(f"torch's convolutions pad both sides alike, this layer has (before, after) = {geometry.padding}")
            padding: Any = "same"
        else:
            padding = tuple(before for before, _ in geometry.padding)
        kind: Callable[..., _Conv] = _CONVS[self.axes, geometry.transposed]
        if geometry.transposed:
            kind = partial(kind, output_padding=geometry.output_padding)
        conv = kind(
            geometry.in_channels,
            geometry.out_channels,
            geometry.kernel_size,
            stride=geometry.stride,
            padding=padding,
            dilation=geometry.dilation,
            groups=geometry.groups,
            bias=self.bias is not None,
            padding_mode=geometry.padding_mode,
            device=self.values.device,
            dtype=self.values.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(share(self.values, geometry, self.local_layout))
            conv.weight.requires_grad_(self.values.requires_grad)
            if self.bias is not None and conv.bias is not None:
                conv.bias.copy_(self.bias.double().unflatten(0, (-1, geometry.groups)).mean(dim=0).flatten())
                conv.bias.requires_grad_(self.bias.requires_grad)
        return conv.train(self.training)

    @classmethod
    def _blank(cls: type[_LC], geometry: ConvGeometry, layout: BlockLayout, bias: bool, like: Tensor) -> _LC:
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.geometry = geometry
        layer._set_up(layout, bias, like.device, like.dtype)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        image = (self.geometry.in_channels, *self.geometry.input_size)
        if input.shape[-1 - self.axes :] != image or input.dim() not in (self.axes + 1, self.axes + 2):
            raise ValueError(f"x must have the shape (N, C, *input_size) = (N, {', '.join(map(str, image))}), got {tuple(input.shape)}")
        if input.dim() == self.axes + 1:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        laid = batch_last(input) if self.batch_last else input
        return owned(self._map(laid.flatten(2)).unflatten(2, self.geometry.output_size))

    def _check_layout(self, layout: BlockLayout) -> None:
        if not np.array_equal(layout.checked_against(self.geometry).local, layout.local):
            raise ValueError("its local blocks are not those of this layer's convolution")

    def extra_repr(self) -> str:
        g = self.geometry
        return (
            f"{g.in_channels}, {g.out_channels}, input_size={g.input_size}, kernel_size={g.kernel_size}, stride={g.stride}, padding={g.padding}, "
            f"dilation={g.dilation}, groups={g.groups}, bias={self.bias is not None}, padding_mode={g.padding_mode!r}, "
            f"{'transposed, ' if g.transposed else ''}output_size={g.output_size}, layout={self.layout!r}"
        )


class LocallyConnected1d(_LocallyConnected):
    """nn.Conv1d without weight sharing: x (N, C_in, L) -> (N, C_out, L_out), L = input_size fixed. See LocallyConnected2d."""

    axes = 1


class LocallyConnected2d(_LocallyConnected):
    """nn.Conv2d without weight sharing: every output site has its own kernel.

    Args: as nn.Conv2d, and
        input_size: (H, W) of the images, which is fixed.
        padding: also (before, after) pairs per axis.
        support: "local", a halo radius in pixels, "full", or a BlockLayout; weights outside the window are `off_values`.

    Shape: x (N, C_in, H, W) or (C_in, H, W) -> (N, C_out, H_out, W_out), in the memory order of x, with
    groups batch-last unless x is contiguous.
    Equivalent torch: unfold, then an einsum over "nckp,pock->nop", at N x k^2 times the memory.
    Raises ValueError for sizes that no convolution can have and for images of another size.
    """

    axes = 2


class LocallyConnected3d(_LocallyConnected):
    """nn.Conv3d without weight sharing: x (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out). See LocallyConnected2d."""

    axes = 3


LOCALLY_CONNECTED: dict[int, type[_LocallyConnected]] = {1: LocallyConnected1d, 2: LocallyConnected2d, 3: LocallyConnected3d}


def _sizes(input_size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    sizes = tuple(input_size) if isinstance(input_size, Iterable) else (integer("input_size", input_size, 1),) * axes
    if len(sizes) != axes:
        raise ValueError(f"input_size must have {axes} spatial axes, got {input_size!r}")
    return sizes


def _embed(layer: BlockSparse, conv: _Conv, geometry: ConvGeometry) -> None:
    """Copy the convolution's function and its training state into the layer."""
    with torch.no_grad():
        layer.values.copy_(unshare(conv.weight.detach(), geometry, layer.local_layout))
        layer.values.requires_grad_(conv.weight.requires_grad)
        if layer.off_values is not None:
            layer.off_values.zero_().requires_grad_(conv.weight.requires_grad)
        if layer.bias is not None and conv.bias is not None:
            layer.bias.copy_(conv.bias.detach().reshape(geometry.groups, -1).repeat(layer.layout.out_sites // geometry.groups, 1))
            layer.bias.requires_grad_(conv.bias.requires_grad)
    layer.train(conv.training)


def _bias_to_sites(bias: Tensor, layout: BlockLayout) -> Tensor:
    """(1, out_features) in feature order -> (P, Co)."""
    if not layout.channels_first:
        return bias.reshape(layout.out_sites, layout.block[0])
    return bias.reshape(layout.groups, layout.block[0], -1).permute(2, 0, 1).reshape(layout.out_sites, layout.block[0])
