"""What an optimizer needs of a mapping: groups of parameters, and what it has gathered for the CNN."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.nn import BlockSparse, LocallyConnected
from efcn_kernels.nn.locally_connected import locally_connected_layers
from efcn_kernels.pattern.sharing import unshare
from efcn_kernels.pattern.sites import filter_bias_to_sites


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    off_local_learning_rate: float | None = None,
    off_local_weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer: everything, and the off-local weights apart where there are any. None: the same as everything."""
    off = [layer.off_weight for layer in network.modules() if isinstance(layer, BlockSparse) and layer.off_weight is not None]
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
    layers = locally_connected_layers(efcn)
    origin: Tensor
    lay: Callable[[Tensor], Tensor]
    for name, parameter in efcn.named_parameters():
        owner, _, part = name.rpartition(".")
        layer = layers.get(owner)
        if layer is None:
            origin, lay = parameters[name], torch.clone
        elif part == "off_weight":
            # born with the mapping: the state of the filter, of which nothing lies off the window
            origin, lay = _parameter(convs[owner], "weight"), _zeros(parameter)
        else:
            origin, lay = _parameter(convs[owner], "weight" if part == "weight" else "bias"), _embedding(layer, part)
        if state := source.state.get(origin):
            target.state[parameter] = {key: _carried(value, origin, lay) for key, value in state.items()}


def _carried(value: Any, origin: Tensor, lay: Callable[[Tensor], Tensor]) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return lay(value) if value.shape == origin.shape else value.clone()


def _embedding(layer: LocallyConnected, part: str) -> Callable[[Tensor], Tensor]:
    if part == "weight":
        return lambda filters: unshare(filters, layer.geometry, layer.local_layout)
    return lambda bias: filter_bias_to_sites(bias, layer.layout.out_sites, layer.groups)


def _zeros(like: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: torch.zeros_like(like)


def _parameter(module: nn.Module, name: str) -> Tensor:
    parameter = getattr(module, name)
    assert isinstance(parameter, Tensor)
    return parameter
