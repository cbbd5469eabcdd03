"""Locally connected layers, which torch lacks: convolutions that do not share their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from efcn_kernels.nn.base import BlockSparse, Conv, embed, spatial_sizes
from efcn_kernels.ops import batch_last
from efcn_kernels.pattern.geometry import ConvGeometry, Padding, PerAxis
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sharing import share, tap_blocks
from efcn_kernels.pattern.sites import site_bias_to_filter
from efcn_kernels.pattern.validation import known_keywords

_LC = TypeVar("_LC", bound="LocallyConnected")
_SHARED = (
    *("in_channels", "out_channels", "groups", "padding_mode", "transposed"),
    *("kernel_size", "stride", "dilation", "output_padding", "input_size", "output_size"),
)
_CONVS: dict[tuple[int, bool], type[Conv]] = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}


def _of_geometry(name: str) -> property:
    return property(lambda layer: getattr(layer.geometry, name), doc=f"`{name}` of the convolution that this layer unshares.")


class LocallyConnected(BlockSparse):
    """A convolution without weight sharing, the base of LocallyConnected1d, 2d and 3d.

    Attributes: those of torch's convolutions (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode, transposed,
    output_padding), input_size and output_size; `geometry` holds all of them, `layout` which blocks exist.
    """

    axes: ClassVar[int] = 0
    geometry: ConvGeometry
    in_channels, out_channels, groups, padding_mode, transposed = map(_of_geometry, _SHARED[:5])
    kernel_size, stride, dilation, output_padding, input_size, output_size = map(_of_geometry, _SHARED[5:])
    # whether to hand out batch-last outputs whatever the memory order of the input
    batch_last: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: int | Sequence[int],
        kernel_size: PerAxis | None = None,
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
        **unknown: Any,
    ) -> None:
        super().__init__()
        if not self.axes:
            raise TypeError("LocallyConnected is the base of LocallyConnected1d, LocallyConnected2d and LocallyConnected3d: make one of these")
        known_keywords(type(self), unknown)
        if kernel_size is None:
            raise TypeError(
                f"{type(self).__name__} takes the size of its images before the kernel's, (in_channels, out_channels, input_size, kernel_size, ...): "
                f"got {input_size!r} for input_size and no kernel_size"
            )
        size = spatial_sizes(input_size, self.axes)
        self.geometry = ConvGeometry.make(in_channels, out_channels, size, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._set_up(BlockLayout.from_support(self.geometry, support), bias, device, dtype)
        self.reset_parameters()

    @classmethod
    def from_conv(cls: type[_LC], conv: Conv, input_size: int | Sequence[int], support: Any = "local") -> _LC:
        """The layer with the same function as `conv` (also a transposed one) at `input_size`; off-local weights start at zero."""
        geometry = ConvGeometry.of(conv, spatial_sizes(input_size, cls.axes))  # type: ignore[arg-type]
        layer = cls._blank(geometry, BlockLayout.from_support(geometry, support), conv.bias is not None, conv.weight)
        embed(layer, conv, geometry)
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
        size = spatial_sizes(input_size, cls.axes)
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
        layer.weight.data.zero_().index_add_(0, where.block.to(weight.device), by_read[where.out, where.tap])
        if bias is not None and layer.bias is not None:
            layer.bias.data.copy_(bias.detach().reshape(wanted[1], -1).T)
        return layer

    def to_lc(self) -> tuple[Tensor, Tensor | None]:
        """(weight (1, Co, Ci, *output_size, taps), bias (1, Co, *output_size)) as the forum's class holds them; dead taps are zero.

        Raises ValueError where that format cannot hold this layer: groups, off-local weights, several taps on one block.
        """
        where = tap_blocks(self.geometry, self.local_layout)
        if self.geometry.groups > 1 or self.off_weight is not None or where.block.unique().numel() != where.block.numel():
            raise ValueError(f"the (1, Co, Ci, *output_size, taps) format holds neither groups nor off-local weights nor shared blocks: {self}")
        geometry = self.geometry
        (co, ci), taps = geometry.block, geometry.num_taps
        by_read = self.weight.new_zeros((self.layout.out_sites, taps, co, ci))
        by_read[where.out, where.tap] = self.weight.detach()[where.block.to(self.weight.device)]
        weight = by_read.permute(2, 3, 0, 1).reshape(1, co, ci, *geometry.output_size, taps)
        bias = None if self.bias is None else self.bias.detach().T.reshape(1, co, *geometry.output_size)
        return weight, bias

    def to_conv(self) -> Conv:
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
        kind: Callable[..., Conv] = _CONVS[self.axes, geometry.transposed]
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
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(share(self.weight, geometry, self.local_layout))
            conv.weight.requires_grad_(self.weight.requires_grad)
            if self.bias is not None and conv.bias is not None:
                conv.bias.copy_(site_bias_to_filter(self.bias, geometry.groups))
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
        geometry = self.geometry
        if input.shape[1:] != geometry.image_shape:
            if input.shape == geometry.image_shape:
                return self.forward(input.unsqueeze(0)).squeeze(0)
            shape = ", ".join(map(str, geometry.image_shape))
            raise ValueError(f"x must have the shape (N, C, *input_size) = (N, {shape}), got {tuple(input.shape)}")
        return self._map(batch_last(input) if self.batch_last else input, geometry.output_size)

    def _check_layout(self, layout: BlockLayout) -> None:
        if not np.array_equal(layout.checked_against(self.geometry).local, layout.local):
            raise ValueError("its local blocks are not those of this layer's convolution")

    @property
    def padding(self) -> tuple[int, ...] | tuple[tuple[int, int], ...]:
        """Pixels on each axis as torch's convolutions have them; (before, after) pairs where the two sides of an axis differ."""
        pairs = self.geometry.padding
        return tuple(before for before, _ in pairs) if all(before == after for before, after in pairs) else pairs

    def extra_repr(self) -> str:
        """The sizes, and what differs from the defaults."""
        parts = [f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}, kernel_size={self.kernel_size}"]
        ones, zeros = (1,) * self.axes, (0,) * self.axes
        defaults = {
            "stride": ones,
            "padding": zeros,
            "dilation": ones,
            "groups": 1,
            "padding_mode": "zeros",
            "transposed": False,
            "output_padding": zeros,
        }
        parts += [f"{name}={value!r}" for name, default in defaults.items() if (value := getattr(self, name)) != default]
        if self.bias is None:
            parts.append("bias=False")
        if self.off_layout is not None:
            parts.append(f"off_local_blocks={self.off_layout.nnzb}")
        if self.layout.mask is not None:
            parts.append(f"free_weights={self.layout.nnz}")
        return ", ".join(parts)


class LocallyConnected1d(LocallyConnected):
    """nn.Conv1d without weight sharing: x (N, C_in, L) -> (N, C_out, L_out), L = input_size fixed. See LocallyConnected2d."""

    axes = 1


class LocallyConnected2d(LocallyConnected):
    """nn.Conv2d without weight sharing: every output site has its own kernel.

    Args: as nn.Conv2d, and
        input_size: (H, W) of the images, which is fixed.
        padding: also (before, after) pairs per axis.
        support: "local", a halo radius in pixels, "full", or a BlockLayout; weights outside the window are `off_weight`.

    Shape: x (N, C_in, H, W) or (C_in, H, W) -> (N, C_out, H_out, W_out), in the memory order of x, with
    groups batch-last unless x is contiguous.
    Equivalent torch: unfold, then an einsum over "nckp,pock->nop", at N x k^2 times the memory.
    Raises ValueError for sizes that no convolution can have and for images of another size.
    """

    axes = 2


class LocallyConnected3d(LocallyConnected):
    """nn.Conv3d without weight sharing: x (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out). See LocallyConnected2d."""

    axes = 3


LOCALLY_CONNECTED: dict[int, type[LocallyConnected]] = {1: LocallyConnected1d, 2: LocallyConnected2d, 3: LocallyConnected3d}


def locally_connected_layers(network: nn.Module) -> dict[str, LocallyConnected]:
    """The locally connected layers of a network by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, LocallyConnected)}
