"""Relaxing a CNN: what else its eFCN can start from, grow into, be cut to, and take along from the CNN's training.

The mapping itself is `embedding.cnn_to_efcn`: support "local" frees the sharing, a halo radius or "full" the locality too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from efcn_kernels.mapping.to_efcn import cnn_to_efcn
from efcn_kernels.nn.base import BlockSparse
from efcn_kernels.nn.locally_connected import _LocallyConnected
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sharing import unshare


def default_fcn(cnn: nn.Module, example_input: Any) -> nn.Module:
    """The FCN of d'Ascoli et al. 2019: the full eFCN of `cnn`, every weight drawn anew by PyTorch's default initialisation of nn.Linear.

    Uniform within 1 / sqrt(fan-in), the fan-in being that of the dense matrix over the padded image, as in the authors' code; their dead
    weights compute nothing and are not drawn. Modules that are not convolutions are reset too. Draws from torch's global generator.
    """
    fcn = cnn_to_efcn(cnn, example_input, support="full")
    for module in fcn.modules():
        if isinstance(module, _LocallyConnected):
            bound = module.geometry.padded_features**-0.5
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return fcn


def fcn_of_norms(efcn: nn.Module) -> nn.Module:
    """A copy of `efcn` that keeps the norms of its layers and nothing else of them: a control for what an FCN gains by scale alone.

    The weights of each mapped layer, local and off-local alike, and those of each other matrix are drawn normal with mean 0 and the root
    mean square that they had together; biases and norm layers stay. Draws from torch's global generator.
    """
    fcn = copy.deepcopy(efcn)
    with torch.no_grad():
        for module in fcn.modules():
            if isinstance(module, _LocallyConnected):
                _draw([w for w in (module.values, module.off_values) if w is not None])
            elif isinstance(module, nn.Linear):
                _draw([module.weight])
    return fcn


def scatter(network: nn.Module, std: float) -> None:
    """Start the off-local weights of `network` in place at normal random numbers of that standard deviation instead of at zero."""
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std}")
    for layer in network.modules():
        if isinstance(layer, BlockSparse) and layer.off_values is not None and layer.off_layout is not None:
            nn.init.normal_(layer.off_values, std=std)
            if layer.off_layout.mask is not None:
                with torch.no_grad():
                    layer.off_values.mul_(layer.off_layout.mask.to(layer.off_values.device))


def grow(network: nn.Module, support: Any) -> nn.Module:
    """A copy of `network` with more blocks: `support` as in `cnn_to_efcn`, one for all. The same function, for the new weights are zero.

    Raises ValueError where a layer holds blocks that `support` lacks, naming one, or weights that an element mask of `support` leaves out.
    """

    def larger(layer: _LocallyConnected) -> BlockLayout:
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


def prune(network: nn.Module, keep: float) -> nn.Module:
    """A copy of `network` with only the share `keep` (0 .. 1) of its off-local blocks, those of the largest norm among all layers."""
    if not 0 <= keep <= 1:
        raise ValueError(f"keep must be a share from 0 to 1, got {keep}")
    sizes = {layer: layer.off_values.detach().flatten(1).norm(dim=1) for layer in _layers(network).values() if layer.off_values is not None}
    every = torch.cat([*(norms.cpu() for norms in sizes.values()), torch.zeros(0)])
    kept = torch.zeros(len(every), dtype=torch.bool)
    kept[every.topk(round(keep * len(every))).indices] = True
    parts = dict(zip(sizes, kept.split([len(norms) for norms in sizes.values()])))

    def smaller(layer: _LocallyConnected) -> BlockLayout:
        blocks = layer.layout.local.copy()
        if layer in parts:
            blocks[~layer.layout.local] = parts[layer].numpy()
        return layer.layout.part(blocks).checked_against(layer.geometry)

    return _relaid(network, smaller)


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    off_local_learning_rate: float | None = None,
    off_local_weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer: everything, and the off-local weights apart where there are any. None: the same as everything."""
    off = [layer.off_values for layer in network.modules() if isinstance(layer, BlockSparse) and layer.off_values is not None]
    apart = {id(p) for p in off}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if id(p) not in apart], "lr": learning_rate, "weight_decay": weight_decay}
    ]
    if off:
        rate = learning_rate if off_local_learning_rate is None else off_local_learning_rate
        decay = weight_decay if off_local_weight_decay is None else off_local_weight_decay
        groups.append({"params": off, "lr": rate, "weight_decay": decay})
    return groups


def carry_state(source: torch.optim.Optimizer, cnn: nn.Module, target: torch.optim.Optimizer, efcn: nn.Module) -> None:
    """Give `target`, the optimizer of `efcn`, what `source` has gathered for `cnn`, mapped as the weights are.

    A momentum is copied to every site, an off-local one is zero: but for new gradients the network goes on moving as the CNN did. The
    averages of Adam follow likewise, step counts are copied. Options, learning rates among them, stay those of `target`.
    """
    convs, parameters = dict(cnn.named_modules()), dict(cnn.named_parameters())
    layers = _layers(efcn)
    origin: Tensor
    lay: Callable[[Tensor], Tensor]
    for name, parameter in efcn.named_parameters():
        owner, _, part = name.rpartition(".")
        layer = layers.get(owner)
        if layer is None:
            origin, lay = parameters[name], torch.clone
        elif part == "off_values":
            # born with the mapping: the state of the filter, of which nothing lies off the window
            origin, lay = _parameter(convs[owner], "weight"), _zeros(parameter)
        else:
            origin, lay = _parameter(convs[owner], "weight" if part == "values" else "bias"), _embedding(layer, part)
        if state := source.state.get(origin):
            target.state[parameter] = {key: _carried(value, origin, lay) for key, value in state.items()}


def _carried(value: Any, origin: Tensor, lay: Callable[[Tensor], Tensor]) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return lay(value) if value.shape == origin.shape else value.clone()


def _embedding(layer: _LocallyConnected, part: str) -> Callable[[Tensor], Tensor]:
    if part == "values":
        return lambda filters: unshare(filters, layer.geometry, layer.local_layout)
    groups = layer.layout.groups
    return lambda bias: bias.reshape(groups, -1).repeat(layer.layout.out_sites // groups, 1)


def _zeros(like: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: torch.zeros_like(like)


def _parameter(module: nn.Module, name: str) -> Tensor:
    parameter = getattr(module, name)
    assert isinstance(parameter, Tensor)
    return parameter


def _layers(network: nn.Module) -> dict[str, _LocallyConnected]:
    return {name: module for name, module in network.named_modules() if isinstance(module, _LocallyConnected)}


def _draw(weights: Sequence[Tensor]) -> None:
    total = sum(float(torch.linalg.vector_norm(w, dtype=torch.float64)) ** 2 for w in weights)
    rms = (total / max(sum(w.numel() for w in weights), 1)) ** 0.5
    for parameter in weights:
        parameter.normal_(std=rms)


def _relaid(network: nn.Module, layout_of: Callable[[_LocallyConnected], BlockLayout]) -> nn.Module:
    """A copy of `network` on other layouts: blocks in both keep their weights, new ones are zero."""
    made = {id(layer): _on_layout(layer, layout_of(layer)) for layer in _layers(network).values()}
    copied: nn.Module = copy.deepcopy(network, dict(made))
    return copied


def _on_layout(layer: _LocallyConnected, layout: BlockLayout) -> _LocallyConnected:
    state = {name: value for name, value in layer.state_dict().items() if name in ("values", "bias")}
    state["layout_crow"], state["layout_col"] = layout.to_bsr_indices()
    if layout.mask is not None:
        state["layout_mask"] = layout.mask
    off = layout.split()[1]
    if off is not None:
        state["layout_local"] = torch.tensor(layout.local, device="cpu")
        state["off_values"] = layer.values.new_zeros(off.nnzb, *layout.block)
        if layer.off_values is not None and layer.off_layout is not None:
            _, here, there = np.intersect1d(off.keys(), layer.off_layout.keys(), assume_unique=True, return_indices=True)
            state["off_values"][torch.from_numpy(here)] = layer.off_values.detach()[torch.from_numpy(there)]
    relaid = copy.deepcopy(layer)
    relaid.load_state_dict(state)
    return relaid
