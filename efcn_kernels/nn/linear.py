"""The equivalent fully-connected layer of a convolution: nn.Linear with a block-sparse weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.nn.base import BlockSparse, Conv, embed, spatial_sizes
from efcn_kernels.ops.memory import owned
from efcn_kernels.pattern.geometry import ConvGeometry
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sites import feature_bias_to_sites
from efcn_kernels.pattern.validation import known_keywords


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
        **unknown: Any,
    ) -> None:
        super().__init__()
        known_keywords(type(self), unknown)
        if (in_features, out_features) != (layout.in_features, layout.out_features):
            raise ValueError(
                f"in_features and out_features must be {layout.in_features} and {layout.out_features}, got {in_features} and {out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        self._set_up(layout, bias, device, dtype)
        self.reset_parameters()

    @classmethod
    def from_conv(cls, conv: Conv, input_size: int | Sequence[int], support: Any = "local") -> EFCNLinear:
        """The layer with the same function as `conv` on flattened (C, *input_size) images; off-local weights start at zero."""
        geometry = ConvGeometry.of(conv, spatial_sizes(input_size, len(conv.kernel_size)))  # type: ignore[arg-type]
        layer = cls._blank(BlockLayout.from_support(geometry, support), conv.bias is not None, conv.weight)
        embed(layer, conv, geometry)
        return layer

    @classmethod
    def from_linear(cls, linear: nn.Linear, layout: BlockLayout) -> EFCNLinear:
        """`linear` with its weight cut down to the layout."""
        layer = cls.from_dense(linear.weight, layout, bias=linear.bias is not None)
        if linear.bias is not None and layer.bias is not None:
            layer.bias.data.copy_(feature_bias_to_sites(linear.bias.detach(), layout))
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
        into, out = layout.in_sites // layout.groups, (layout.out_sites // layout.groups,)
        if layout.channels_first:
            y = self._map(flat.unflatten(1, (layout.groups * layout.block[1], into)), out)
        else:
            y = self._map(flat.unflatten(1, (into, layout.groups * layout.block[1])).transpose(1, 2), out).transpose(1, 2)
        return owned(y.reshape(*x.shape[:-1], self.out_features))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, layout={self.layout!r}"
