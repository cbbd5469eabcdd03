"""What EFCNLinear and LocallyConnected share: parameters on a layout, their initialisation, state and dense form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from efcn_kernels.ops import batch_last, bsr_map, prefer_large_pages
from efcn_kernels.pattern.geometry import ConvGeometry
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sharing import unshare
from efcn_kernels.pattern.sites import dense_blocks, dense_matrix, filter_bias_to_sites
from efcn_kernels.pattern.validation import entry_mask, integer

Conv = nn.modules.conv._ConvNd

# what of a layout is in a state dict, beside the parameters
_LAYOUT = ("layout_crow", "layout_col", "layout_local", "layout_mask")


# what people write for the names of the weights
_MEANT = {"values": "weight", "weights": "weight", "off_values": "off_weight", "off_weights": "off_weight", "biases": "bias"}


def _no_such(layer: nn.Module, name: str) -> NoReturn:
    raise AttributeError(
        f"{type(layer).__name__} has no {name!r}, did you mean {_MEANT[name]!r}? Its parameters are weight (nnzb, Co, Ci), off_weight, bias (P, Co)"
    )


def _of_layout(name: str) -> property:
    return property(lambda layer: layer._layout_state().get(name), doc=f"`{name}` of the state dict, None where it is not there.")


class BlockSparse(nn.Module):
    """Free weights on the blocks of a layout.

    Parameters:
        weight (nnzb_local, Co, Ci): weights of the local blocks, `local_layout`.
        off_weight (nnzb_off, Co, Ci) or None: weights of the off-local blocks, `off_layout`; a parameter of its own so
            that it can have its own learning rate and decay.
        bias (P, Co) or None.
    """

    layout: BlockLayout
    local_layout: BlockLayout
    off_layout: BlockLayout | None
    weight: nn.Parameter
    off_weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __getattr__(self, name: str) -> Any:
        if name in _MEANT:
            _no_such(self, name)
        return super().__getattr__(name)

    def _set_up(self, layout: BlockLayout, bias: bool, device: Any = None, dtype: torch.dtype | None = None) -> None:
        """Allocate the parameters, uninitialised."""
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"the weights are real floating-point numbers, got dtype {dtype}")
        self._set_layout(layout)
        where = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(prefer_large_pages(torch.empty(self.local_layout.nnzb, *layout.block, **where)))
        off = None
        if self.off_layout is not None:
            off = nn.Parameter(prefer_large_pages(torch.empty(self.off_layout.nnzb, *layout.block, **where)))
        self.register_parameter("off_weight", off)
        self.register_parameter("bias", nn.Parameter(torch.empty(layout.out_sites, layout.block[0], **where)) if bias else None)

    def _set_layout(self, layout: BlockLayout) -> None:
        self.layout = layout
        self.local_layout, self.off_layout = layout.split()

    def reset_parameters(self) -> None:
        """Initialise as torch's Linear and convolutions do: uniform within 1 / sqrt(fan-in), by the inputs each output really has."""
        fan_in = torch.from_numpy(self.layout.fan_in()).double()
        bound = fan_in.clamp(min=1).rsqrt() * (fan_in > 0)
        with torch.no_grad():
            for weights, part in self._parts():
                row, _ = part.places(bound.device)
                weights.uniform_(-1, 1).mul_(bound[row].unsqueeze(2).to(weights))
                part.zero_outside(weights)
            if self.bias is not None:
                self.bias.uniform_(-1, 1).mul_(bound.to(self.bias))

    def _parts(self) -> list[tuple[nn.Parameter, BlockLayout]]:
        parts = [(self.weight, self.local_layout)]
        if self.off_weight is not None and self.off_layout is not None:
            parts.append((self.off_weight, self.off_layout))
        return parts

    def _map(self, x: Tensor, output_size: tuple[int, ...]) -> Tensor:
        """The layer on feature maps: x (N, in channels, *input_size) -> (N, out channels, *output_size)."""
        # with groups only a batch-last tensor has one stride per site; the kernels want that order anyway
        laid = batch_last(x) if self.layout.groups > 1 else x
        # where they are parameters of their own they are found faster than as attributes; a parametrisation makes attributes of them
        own = self._parameters
        weight = self.weight if (found := own.get("weight")) is None else found
        bias = self.bias if (found := own.get("bias")) is None else found
        y = bsr_map(laid, weight, self.local_layout, output_size, bias)
        if self.off_layout is not None and self.off_weight is not None:
            y = y + bsr_map(laid, self.off_weight, self.off_layout, output_size)
        return y.contiguous() if x is not laid and x.is_contiguous() else y

    @property
    def weight_count(self) -> int:
        """Free weights, biases included."""
        return self.layout.nnz + (0 if self.bias is None else self.bias.numel())

    def to_dense(self) -> Tensor:
        """(out_features, in_features) as nn.Linear.weight, in this layer's feature order."""
        layout = self.layout
        dense = self.weight.new_zeros((layout.out_sites, layout.in_sites, *layout.block))
        for weights, part in self._parts():
            dense = dense.index_put(part.places(dense.device), part.masked(weights))
        return dense_matrix(dense, layout)

    def to_bsr(self) -> Tensor:
        """The weight as a torch sparse BSR tensor (P * Co, Q * Ci), rows and columns in (site, channel) order."""
        values = self.weight.new_empty((self.layout.nnzb, *self.layout.block))
        local = torch.tensor(self.layout.local, device=values.device)
        for weights, part in self._parts():
            values[local if part is self.local_layout else ~local] = part.masked(weights).detach()
        crow, col = (i.to(values.device) for i in self.layout.to_bsr_indices())
        return torch.sparse_bsr_tensor(crow, col, values, (self.layout.out_features, self.layout.in_features))

    def _fill_from_dense(self, weight: Tensor) -> None:
        layout = self.layout
        if tuple(weight.shape) != (layout.out_features, layout.in_features):
            raise ValueError(
                f"weight must have the shape (out_features, in_features) = {(layout.out_features, layout.in_features)}, got {tuple(weight.shape)}"
            )
        blocks = dense_blocks(weight.detach(), layout)
        with torch.no_grad():
            for parameter, part in self._parts():
                parameter.copy_(part.masked(blocks[part.places(weight.device)]))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in self._layout_state().items():
            destination[prefix + name] = tensor

    # torch.distributed.checkpoint looks every name of a state dict up in its module
    layout_crow, layout_col, layout_local, layout_mask = map(_of_layout, _LAYOUT)

    def _layout_state(self) -> dict[str, Tensor]:
        crow, col = self.layout.to_bsr_indices()
        state = {"layout_crow": crow, "layout_col": col}
        if self.off_layout is not None:
            state["layout_local"] = torch.tensor(self.layout.local, device="cpu")
        if self.layout.mask is not None:
            state["layout_mask"] = self.layout.mask.detach().clone()
        return state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, errors: Any) -> None:
        crow, col, local, mask = (state_dict.pop(prefix + name, None) for name in _LAYOUT)
        if crow is None or col is None:
            missing += [prefix + name for name, given in zip(_LAYOUT, (crow, col)) if given is None]
        else:
            try:
                layout = self._layout_of(crow, col, local, mask)
                if not layout.same_blocks(self.layout):
                    self._adopt(layout, state_dict, prefix)
            except (TypeError, ValueError) as error:
                errors.append(f"the layout of {prefix.rstrip('.') or type(self).__name__} does not fit: {error}")
                return
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        for weights, part in self._parts():
            # a new tensor where there is a mask: with assign=True this one is the caller's
            weights.data = part.masked(weights.data)

    def _layout_of(self, crow: Tensor, col: Tensor, local: Tensor | None, mask: Tensor | None) -> BlockLayout:
        """A saved layout, for the sites and features of this layer."""
        old = self.layout
        layout = BlockLayout(
            old.out_sites,
            old.in_sites,
            old.block,
            crow.cpu(),
            col.cpu(),
            local=None if local is None else local.cpu().numpy(),
            mask=entry_mask(None if mask is None else mask.cpu(), (col.numel(), *old.block)),
            groups=old.groups,
            channels_first=old.channels_first,
        )
        self._check_layout(layout)
        return layout

    def _adopt(self, layout: BlockLayout, state: Mapping[str, Any], prefix: str) -> None:
        """Take over another layout with the weights that come with it; parameters change their size in place."""
        parts = dict(zip(("weight", "off_weight"), layout.split()))
        for name, part in parts.items():
            wanted = None if part is None else (part.nnzb, *layout.block)
            given = None if (prefix + name) not in state else tuple(state[prefix + name].shape)
            if given != wanted:
                raise ValueError(f"it has blocks for {name} of shape {wanted}, the state has {given}")
        self._set_layout(layout)
        self.weight.data = self.weight.new_zeros((self.local_layout.nnzb, *layout.block))
        self.weight.grad = None
        if self.off_layout is None:
            self.off_weight = None
        else:
            if self.off_weight is None:
                self.off_weight = nn.Parameter(self.weight.new_empty(0), self.weight.requires_grad)
            self.off_weight.data = self.weight.new_zeros((self.off_layout.nnzb, *layout.block))
            self.off_weight.grad = None

    def _check_layout(self, layout: BlockLayout) -> None:
        """Raise ValueError where this layer cannot have that layout."""


def embed(layer: BlockSparse, conv: Conv, geometry: ConvGeometry) -> None:
    """Copy the convolution's function and its training state into the layer."""
    with torch.no_grad():
        layer.weight.copy_(unshare(conv.weight.detach(), geometry, layer.local_layout))
        layer.weight.requires_grad_(conv.weight.requires_grad)
        if layer.off_weight is not None:
            layer.off_weight.zero_().requires_grad_(conv.weight.requires_grad)
        if layer.bias is not None and conv.bias is not None:
            layer.bias.copy_(filter_bias_to_sites(conv.bias.detach(), layer.layout.out_sites, geometry.groups))
            layer.bias.requires_grad_(conv.bias.requires_grad)
    layer.train(conv.training)


def spatial_sizes(input_size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One size for each axis. Raises ValueError for another number of sizes."""
    sizes = tuple(input_size) if isinstance(input_size, Iterable) else (integer("input_size", input_size, 1),) * axes
    if len(sizes) != axes:
        raise ValueError(f"input_size must have {axes} spatial axes, got {input_size!r}")
    return sizes
