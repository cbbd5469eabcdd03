"""A network whose matrix fits on paper."""

from __future__ import annotations

import torch
from torch import nn


def line(*weights: float) -> nn.Sequential:
    """One filter of the given taps, padded by one pixel, over a line of 3 pixels: a matrix that fits on paper."""
    conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(weights).view(1, 1, 3))
    return nn.Sequential(conv)
