"""Dead weights: those of zero padding, which a dense matrix over the padded image holds and this package does not store."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import nn

from efcn_kernels.analysis.deviation import Squares
from efcn_kernels.analysis.layers import mapped_layers
from efcn_kernels.pattern.geometry import ConvGeometry


def dead_of_default(network: nn.Module) -> dict[str, Squares]:
    """What dead weights add to the sums of squares after torch's default initialisation, expected value, by layer.

    Uniform within 1 / sqrt(fan-in) means a mean square of 1 / (3 fan-in); the fan-in is that of the dense matrix, padding included.
    """
    found = {}
    for name, layer in mapped_layers(network).items():
        geometry = layer.geometry
        (co, ci), inputs = geometry.block, geometry.padded_features
        local = int(_dead_reads(geometry).sum()) * co * ci * geometry.groups
        dead = geometry.out_channels * prod(geometry.output_size) * (inputs - layer.layout.in_features)
        found[name] = Squares(local / (3 * inputs), (dead - local) / (3 * inputs))
    return found


def dead_of_snapshot(network: nn.Module, cnn: nn.Module) -> dict[str, Squares]:
    """What dead weights add in a network mapped from `cnn`, by layer: taps over padding keep the filter's value, the rest is zero.

    Nothing trains them: their input is zero, and so is their gradient (without weight decay).
    """
    convs = dict(cnn.named_modules())
    found = {}
    for name, layer in mapped_layers(network).items():
        weight = convs[name].weight
        assert isinstance(weight, torch.Tensor)
        by_tap = weight.detach().double().flatten(2).square().sum((0, 1)).cpu().numpy()
        found[name] = Squares(float(_dead_reads(layer.geometry) @ by_tap))
    return found


def _dead_reads(geometry: ConvGeometry) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(taps,) at how many output positions each tap meets padding."""
    if geometry.padded_features == geometry.in_channels * prod(geometry.input_size):
        return np.zeros(geometry.num_taps, dtype=np.int64)
    return prod(geometry.output_size) - np.bincount(geometry.taps().tap, minlength=geometry.num_taps)
