"""A network small enough to compute everything by hand or densely."""

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import cnn_to_efcn


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 2, 7, 6)


@pytest.fixture
def cnn() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(24, 5))


@pytest.fixture
def efcn(cnn: nn.Sequential, images: Tensor) -> nn.Module:
    """The full eFCN with every weight moved a little."""
    network = cnn_to_efcn(cnn, images, support="full")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network
