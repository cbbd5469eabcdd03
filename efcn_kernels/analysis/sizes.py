"""What a network holds beside what dense matrices would."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sizes(network: nn.Module, cnn: nn.Module, example: Tensor) -> dict[str, int]:
    """Weights (biases included) and bytes of `network`, and of the network that has a dense nn.Linear for each convolution of `cnn`."""
    dense = sum(p.numel() for p in cnn.parameters())
    for conv, features_in, features_out in _convolutions(cnn, example):
        dense += features_in * features_out + features_out - sum(p.numel() for p in conv.parameters())
    parameters = list(network.parameters())
    width = parameters[0].element_size()
    weights = sum(p.numel() for p in parameters)
    return {"weights": weights, "weight_bytes": weights * width, "dense_weights": dense, "dense_bytes": dense * width}


def _convolutions(cnn: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, int, int]]:
    """Every convolution of `cnn` with its numbers of input and output features on `example`."""
    seen: list[tuple[nn.Conv2d, int, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen.append((module, inputs[0][0].numel(), output[0].numel()))

    hooks = [module.register_forward_hook(note) for module in cnn.modules() if isinstance(module, nn.Conv2d)]
    try:
        with torch.no_grad():
            cnn(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return seen
