"""Distances in the space of the eFCN's weights, where every CNN is a point too."""

from __future__ import annotations

from torch import Tensor, nn

from efcn_kernels.analysis.deviation import WHOLE, square, squares
from efcn_kernels.analysis.layers import Layer, mapped_layers
from efcn_kernels.mapping import efcn_to_cnn
from efcn_kernels.pattern.sharing import unshare


def norms(network: nn.Module) -> dict[str, float]:
    """Euclidean norm of the weights and biases of each mapped layer, of each other parameter, and, under "whole", of all."""
    layers = mapped_layers(network)
    found = {name: squares(layer).local + squares(layer).off_local + _bias(layer) for name, layer in layers.items()}
    return _roots(found | {name: square(value) for name, value in _others(network).items()})


def distance(network: nn.Module, cnn: nn.Module | None = None) -> dict[str, float]:
    """Euclidean distance of `network` to `cnn` as a point of the same space, in the parts of `norms`.

    cnn: the network at its relax time, say; None: the nearest CNN, `efcn_to_cnn(network)`, so that what is measured is the distance to
    the CNN subspace. Its filters stand at every site, its off-local weights are zero.
    Raises ValueError where `cnn` lacks one of the layers.
    """
    cnn = efcn_to_cnn(network) if cnn is None else cnn
    modules, parameters = dict(cnn.named_modules()), dict(cnn.named_parameters())
    layers = mapped_layers(network)
    if absent := [name for name in (*layers, *_others(network)) if name not in modules and name not in parameters]:
        raise ValueError(f"the CNN has no {', '.join(absent)}: expected the one that the network was mapped from")
    found = {name: _layer(layer, modules[name]) for name, layer in layers.items()}
    return _roots(found | {name: square(value.detach() - parameters[name].detach()) for name, value in _others(network).items()})


def _layer(layer: Layer, conv: nn.Module) -> float:
    assert isinstance(conv.weight, Tensor)
    shared = unshare(conv.weight.detach().to(layer.weight), layer.geometry, layer.local_layout)
    total = square(layer.weight.detach() - shared) + squares(layer).off_local
    if layer.bias is not None:
        assert isinstance(conv.bias, Tensor)
        total += square(layer.bias.detach().unflatten(0, (-1, layer.layout.groups)) - conv.bias.detach().unflatten(0, (layer.layout.groups, -1)))
    return total


def _bias(layer: Layer) -> float:
    return 0.0 if layer.bias is None else square(layer.bias)


def _others(network: nn.Module) -> dict[str, Tensor]:
    """The parameters outside of the mapped layers."""
    own = {id(p) for layer in mapped_layers(network).values() for p in layer.parameters()}
    return {name: p for name, p in network.named_parameters() if id(p) not in own}


def _roots(found: dict[str, float]) -> dict[str, float]:
    return {name: value**0.5 for name, value in (found | {WHOLE: sum(found.values())}).items()}
