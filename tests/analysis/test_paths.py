"""Interpolations: formulas by hand on two weights, and their ends."""

import math

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import cnn_to_efcn
from efcn_kernels.analysis import Averaged, curvilinear, linear, string


def _point(*weights: float) -> nn.Linear:
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data.copy_(torch.tensor([weights]))
    return layer


def _weights(network: nn.Module) -> list[float]:
    return [float(w) for p in network.parameters() for w in p.detach().flatten()]


def test_linear_and_curvilinear_by_hand() -> None:
    a, b = _point(2.0, 0.0), _point(0.0, 4.0)
    assert _weights(linear(a, b, 0.25)) == [1.5, 1.0]
    # half way: norm 3, direction 45 degrees
    assert _weights(curvilinear(a, b, 0.5)) == pytest.approx([3 / math.sqrt(2)] * 2)
    for way in (linear, curvilinear):
        assert _weights(way(a, b, 0.0)) == pytest.approx([2.0, 0.0])
        assert _weights(way(a, b, 1.0)) == pytest.approx([0.0, 4.0])
    assert _weights(a) == [2.0, 0.0]


def test_averaged_outputs_by_hand() -> None:
    x = torch.tensor([[1.0, 1.0]])
    assert Averaged(_point(2.0, 0.0), _point(0.0, 4.0), 0.25)(x).item() == 2.5


def test_a_string_moves_by_its_two_forces() -> None:
    a, b = _point(0.0, 0.0), _point(4.0, 0.0)

    def loss(network: nn.Module, _: int) -> Tensor:
        # pulls down on the second weight alone
        return next(network.parameters())[0, 1] * 1.0

    chain = string(a, b, loss, points=5, stiffness=0.25, learning_rate=0.1, steps=2)
    assert chain[0] is a
    assert chain[-1] is b
    # first step: -0.1 each, then a quarter of the bend of 0.1 back at both ends of the three; second: -0.175, -0.2, -0.175 before it straightens
    assert [_weights(p)[0] for p in chain] == pytest.approx([0, 1, 2, 3, 4])
    assert [_weights(p)[1] for p in chain] == pytest.approx([0, -0.1375, -0.1875, -0.1375, 0])


def test_a_string_finds_the_way_around_a_hill() -> None:
    a, b = _point(-1.0, 0.05), _point(1.0, 0.05)

    def hill(network: nn.Module, _: int = 0) -> Tensor:
        return torch.exp(-4 * next(network.parameters()).square().sum())

    def highest(chain: list[nn.Module]) -> float:
        return max(float(hill(point).detach()) for point in chain)

    straight = highest(string(a, b, hill, steps=0))
    assert highest(string(a, b, hill, stiffness=0.05, learning_rate=0.1, steps=200)) < 0.5 * straight


def test_whole_networks_keep_their_kind(cnn: nn.Module, efcn: nn.Module, images: Tensor) -> None:
    start = cnn_to_efcn(cnn, images, support="full")
    middle = linear(start, efcn, 0.5)
    assert middle(images).shape == (6, 5)
    assert torch.equal(linear(start, efcn, 0.0)(images), start(images))
    assert next(iter(middle.parameters())).requires_grad


def test_a_string_is_stable_up_to_the_learning_rate_of_plain_descent() -> None:
    a, b = _point(-1.0, 1.0), _point(1.0, -1.0)

    def steep(network: nn.Module, _: int) -> Tensor:
        # curvature 1.9 / learning_rate: alone it converges
        return 0.5 * 19 * next(network.parameters()).square().sum()

    chain = string(a, b, steep, stiffness=0.45, learning_rate=0.1, steps=200)
    assert max(abs(w) for point in chain for w in _weights(point)) <= 1.0


@pytest.mark.parametrize("wrong", [{"stiffness": 0.5}, {"points": 2}, {"steps": -1}, {"stiffness": -0.1}])
def test_unstable_strings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"0 <= stiffness < 0\.5"):
        string(_point(0.0), _point(1.0), lambda network, _: next(network.parameters()).sum(), **wrong)  # type: ignore[arg-type]


def test_other_shapes_and_lost_directions_are_said(cnn: nn.Module, efcn: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"differ in 0\.off_weight, 2\.off_weight: expected two with the same parameters"):
        linear(cnn_to_efcn(cnn, images), efcn, 0.5)
    with pytest.raises(ValueError, match="opposite to each other"):
        curvilinear(_point(1.0), _point(-1.0), 0.5)
    with pytest.raises(ValueError, match="positive norm"):
        curvilinear(_point(0.0), _point(1.0), 0.5)
