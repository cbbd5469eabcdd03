"""Networks in batch-last order: set where the user's code bears it, the same training either way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efcn_kernels import cnn_to_efcn
from efcn_kernels.nn import LOCALLY_CONNECTED
from tests.support.models import NETWORKS, Viewing

LOCALS = tuple(LOCALLY_CONNECTED.values())


def layers(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, LOCALS)]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_where_it_is_set(name: str) -> None:
    make, example = NETWORKS[name]
    efcn = cnn_to_efcn(make(), example())
    assert {layer.batch_last for layer in layers(efcn)} == {name != "view"}


class Reshaping(nn.Module):
    """`.reshape` bears any order, at the price of a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 36, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(F.relu(self.conv(x)).reshape(x.size(0), -1))
        return y


class ByStride(nn.Module):
    """Code that goes by memory and not by shape: no error, another result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.as_strided(y, (y.size(0), y[0].numel()), (y[0].numel(), 1)).cumsum(1)


def test_by_the_code_that_follows() -> None:
    x = torch.randn(5, 3, 8, 8)
    assert layers(cnn_to_efcn(Reshaping(), x))[0].batch_last
    assert not layers(cnn_to_efcn(ByStride(), x))[0].batch_last


def test_features_stay_batch_last_through_the_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3))
    x = torch.randn(7, 3, 8, 8)
    efcn: Any = cnn_to_efcn(model, x)
    for stop in range(1, 6):
        assert efcn[:stop](x).permute(2, 3, 1, 0).is_contiguous()


def test_a_batch_of_one_as_the_example() -> None:
    """With one image every order is batch-last; what is decided must hold for larger batches too."""
    for make, bears in [(Viewing, False), (Reshaping, True)]:
        model = make().eval()
        efcn = cnn_to_efcn(model, torch.randn(1, 3, 8, 8))
        x = torch.randn(5, 3, 8, 8)
        torch.testing.assert_close(efcn(x), model(x), rtol=1e-4, atol=1e-5)
        assert layers(efcn)[0].batch_last == bears


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "unet", "conv3d", "dict and tuple"])
def test_training_is_equal_either_way(name: str) -> None:
    make, example = NETWORKS[name]
    x = example()
    x = tuple(t.double() for t in x) if isinstance(x, tuple) else x.double()
    one = cnn_to_efcn(make().double(), x, support=1)
    other = copy.deepcopy(one)
    for layer in layers(other):
        layer.batch_last = False
    losses: list[list[float]] = []
    for network in (one, other):
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
        losses.append([])
        for _ in range(3):
            out: Any = network(*x) if isinstance(x, tuple) else network(x)
            out = out["sum"] if isinstance(out, dict) else out
            loss = out.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for a, b in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_flags_survive_copies() -> None:
    efcn = cnn_to_efcn(nn.Sequential(nn.Conv2d(3, 2, 3)), torch.randn(2, 3, 8, 8))
    assert layers(copy.deepcopy(efcn))[0].batch_last
