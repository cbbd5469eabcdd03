"""Which weights a mapped network has: growing into a larger support, and cutting down to a smaller one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from efcn_kernels.nn import LocallyConnected
from efcn_kernels.nn.locally_connected import locally_connected_layers
from efcn_kernels.pattern.layout import BlockLayout


def grow(network: nn.Module, support: Any) -> nn.Module:
    """A copy of `network` with more blocks: `support` as in `cnn_to_efcn`, one for all. The same function, for the new weights are zero.

    Raises ValueError where a layer holds blocks that `support` lacks, naming one, or weights that an element mask of `support` leaves out.
    """

    def larger(layer: LocallyConnected) -> BlockLayout:
        layout = BlockLayout.from_support(layer.geometry, support)
        place = layout.find(layer.layout)
        if layout.mask is not None:
            lost = ~layout.mask[torch.from_numpy(place)]
            if layer.layout.mask is not None:
                lost &= layer.layout.mask
            if bool(lost.any()):
                raise ValueError(f"the support's element mask leaves out {int(lost.sum())} weights that a layer has: its function would change")
        return layout

    return _relaid(network, larger)


def cut(network: nn.Module, keep: float) -> nn.Module:
    """A copy of `network` with only the share `keep` (0 .. 1) of its off-local blocks, those of the largest norm among all layers."""
    if not 0 <= keep <= 1:
        raise ValueError(f"keep must be a share from 0 to 1, got {keep}")
    sizes = {
        layer: layer.off_weight.detach().flatten(1).norm(dim=1)
        for layer in locally_connected_layers(network).values()
        if layer.off_weight is not None
    }
    every = torch.cat([*(norms.cpu() for norms in sizes.values()), torch.zeros(0)])
    kept = torch.zeros(len(every), dtype=torch.bool)
    kept[every.topk(round(keep * len(every))).indices] = True
    parts = dict(zip(sizes, kept.split([len(norms) for norms in sizes.values()])))

    def smaller(layer: LocallyConnected) -> BlockLayout:
        blocks = layer.layout.local.copy()
        if layer in parts:
            blocks[~layer.layout.local] = parts[layer].numpy()
        return layer.layout.part(blocks).checked_against(layer.geometry)

    return _relaid(network, smaller)


def _relaid(network: nn.Module, layout_of: Callable[[LocallyConnected], BlockLayout]) -> nn.Module:
    """A copy of `network` on other layouts: blocks in both keep their weights, new ones are zero."""
    made = {id(layer): _on_layout(layer, layout_of(layer)) for layer in locally_connected_layers(network).values()}
    copied: nn.Module = copy.deepcopy(network, dict(made))
    return copied


def _on_layout(layer: LocallyConnected, layout: BlockLayout) -> LocallyConnected:
    state = {name: value for name, value in layer.state_dict().items() if name in ("weight", "bias")}
    state["layout_crow"], state["layout_col"] = layout.to_bsr_indices()
    if layout.mask is not None:
        state["layout_mask"] = layout.mask
    off = layout.split()[1]
    if off is not None:
        state["layout_local"] = torch.tensor(layout.local, device="cpu")
        state["off_weight"] = layer.weight.new_zeros(off.nnzb, *layout.block)
        if layer.off_weight is not None and layer.off_layout is not None:
            _, here, there = np.intersect1d(off.keys(), layer.off_layout.keys(), assume_unique=True, return_indices=True)
            state["off_weight"][torch.from_numpy(here)] = layer.off_weight.detach()[torch.from_numpy(there)]
    relaid = copy.deepcopy(layer)
    relaid.load_state_dict(state)
    return relaid
