"""A network without its local, or without its off-local weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from efcn_kernels.analysis.layers import mapped_layers


@contextmanager
def masked(network: nn.Module, part: Literal["local", "off-local"]) -> Iterator[nn.Module]:
    """`network` with its local, or its off-local weights at zero; they come back at the end, bit for bit.

    What is left of the accuracy says what each part does: the masked test accuracies of d'Ascoli et al. 2019. Biases and layers that are
    not mapped stay. Raises ValueError for another `part`.
    """
    if part not in ("local", "off-local"):
        raise ValueError(f"part must be 'local' or 'off-local', got {part!r}")
    layers = mapped_layers(network).values()
    weights = [layer.weight if part == "local" else layer.off_weight for layer in layers]
    kept = [(w, w.data) for w in weights if w is not None]
    try:
        for parameter, values in kept:
            parameter.data = torch.zeros_like(values)
        yield network
    finally:
        for parameter, values in kept:
            parameter.data = values
