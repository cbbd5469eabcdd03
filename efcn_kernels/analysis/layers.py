"""The layers of a network that stand for convolutions."""

from __future__ import annotations

from torch import nn

from efcn_kernels.nn import LocallyConnected

Layer = LocallyConnected


def mapped_layers(network: nn.Module) -> dict[str, Layer]:
    """Every locally connected layer of `network` by name. Raises ValueError if there is none."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, Layer)}
    if not layers:
        raise ValueError(f"{type(network).__name__} has no locally connected layer: map it with cnn_to_efcn first")
    return layers
