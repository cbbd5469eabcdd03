"""How far a network has left the two constraints of a CNN: locality and weight sharing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efcn_kernels.analysis.layers import Layer, mapped_layers
from efcn_kernels.pattern.sharing import share, unshare

WHOLE = "whole"


@dataclass(frozen=True)
class Squares:
    """Sums of squared weights, without biases: of local ones and of off-local ones."""

    local: float = 0.0
    off_local: float = 0.0

    def __add__(self, other: Squares) -> Squares:
        return Squares(self.local + other.local, self.off_local + other.off_local)

    @property
    def share(self) -> float:
        """sqrt(off-local / all), 0 where there are no weights."""
        everything = self.local + self.off_local
        return (self.off_local / everything) ** 0.5 if everything else 0.0


def off_local_share(network: nn.Module, dead: Mapping[str, Squares] | None = None) -> dict[str, float]:
    """Delta of d'Ascoli et al. 2019, by layer and, under "whole", of all mapped layers together.

        Delta = |off-local weights| / |all weights|        (Frobenius norms)

    dead: what the weights of zero padding add in each layer (see `dead_of_default`, `dead_of_snapshot`). They meet no input, so
    they are not stored here, but the authors' dense matrices hold and count them.
    """
    found = {name: squares(layer) + (dead or {}).get(name, Squares()) for name, layer in mapped_layers(network).items()}
    return {name: part.share for name, part in found.items()} | {WHOLE: sum(found.values(), Squares()).share}


def sharing_deviation(network: nn.Module) -> dict[str, float]:
    """The spread of each filter tap over the sites, by layer and, under "whole", of all mapped layers together.

        rms(w - w_shared) / rms(w)        over the local weights

    w_shared is the nearest shared filter: the mean over sites of each tap, where every block holds one tap. 0 in a CNN, 1 where nothing
    is shared (large random weights of mean zero).
    """
    spread = {name: (unshared(layer), square(layer.weight)) for name, layer in mapped_layers(network).items()}
    total = [sum(column) for column in zip(*spread.values())]
    return {name: _root(*pair) for name, pair in (spread | {WHOLE: (total[0], total[1])}).items()}


def squares(layer: Layer) -> Squares:
    """The sums of squares of one layer's stored weights."""
    return Squares(square(layer.weight), 0.0 if layer.off_weight is None else square(layer.off_weight))


def unshared(layer: Layer) -> float:
    """Sum of squares of the local weights less their nearest shared filter."""
    filters = share(layer.weight.detach(), layer.geometry, layer.local_layout)
    return square(layer.weight.detach() - unshare(filters, layer.geometry, layer.local_layout))


def square(weights: Tensor) -> float:
    """Sum of squares, added up in float64."""
    return float(torch.linalg.vector_norm(weights.detach(), dtype=torch.float64)) ** 2


def _root(part: float, everything: float) -> float:
    return (part / everything) ** 0.5 if everything else 0.0
