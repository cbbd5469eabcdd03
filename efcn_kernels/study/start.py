"""What a study's networks start from beside a mapping: an FCN, one of an eFCN's norms, random off-local weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels.mapping import cnn_to_efcn
from efcn_kernels.nn import BlockSparse, LocallyConnected


def default_fcn(cnn: nn.Module, example_input: Any) -> nn.Module:
    """The FCN of d'Ascoli et al. 2019: the full eFCN of `cnn`, every weight drawn anew by PyTorch's default initialisation of nn.Linear.

    Uniform within 1 / sqrt(fan-in), the fan-in being that of the dense matrix over the padded image, as in the authors' code; their dead
    weights compute nothing and are not drawn. Modules that are not convolutions are reset too. Draws from torch's global generator.
    """
    fcn = cnn_to_efcn(cnn, example_input, support="full")
    for module in fcn.modules():
        if isinstance(module, LocallyConnected):
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
            if isinstance(module, LocallyConnected):
                _draw([w for w in (module.weight, module.off_weight) if w is not None])
            elif isinstance(module, nn.Linear):
                _draw([module.weight])
    return fcn


def scatter(network: nn.Module, std: float) -> None:
    """Start the off-local weights of `network` in place at normal random numbers of that standard deviation instead of at zero."""
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std}")
    for layer in network.modules():
        if isinstance(layer, BlockSparse) and layer.off_weight is not None and layer.off_layout is not None:
            nn.init.normal_(layer.off_weight, std=std)
            with torch.no_grad():
                layer.off_layout.zero_outside(layer.off_weight)


def _draw(weights: Sequence[Tensor]) -> None:
    total = sum(float(torch.linalg.vector_norm(w, dtype=torch.float64)) ** 2 for w in weights)
    rms = (total / max(sum(w.numel() for w in weights), 1)) ** 0.5
    for parameter in weights:
        parameter.normal_(std=rms)
