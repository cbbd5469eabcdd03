"""verify_equivalence tells networks apart, and the mapping reaches every convolution."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import LocallyConnected2d, cnn_to_efcn, efcn_to_cnn, verify_equivalence


class Returning(nn.Module):
    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Any:
        return self.outputs


@dataclasses.dataclass
class Output:
    logits: Tensor


X = torch.zeros(1, 1, 3, 3)


def test_nan_is_a_difference() -> None:
    a, b = torch.ones(3), torch.tensor([1.0, math.nan, 1.0])
    assert verify_equivalence(Returning((a, a)), Returning((a, b)), X)["output"] == math.inf
    assert verify_equivalence(Returning(b), Returning(b), X)["output"] == 0.0
    assert verify_equivalence(Returning(torch.tensor([math.inf])), Returning(torch.tensor([1.0])), X)["output"] == math.inf


def test_dataclasses_are_compared() -> None:
    assert verify_equivalence(Returning(Output(torch.ones(2))), Returning(Output(torch.zeros(2))), X)["output"] == 1.0


@pytest.mark.parametrize(("a", "b"), [((torch.ones(2), torch.ones(2)), torch.ones(2)), (torch.ones(2, 3), torch.ones(1, 3))])
def test_other_shapes_are_refused(a: Any, b: Any) -> None:
    with pytest.raises(ValueError, match="shapes"):
        verify_equivalence(Returning(a), Returning(b), X)


def test_a_network_that_works_on_its_input_gets_a_copy() -> None:
    class Centred(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5).mul_(2.0))  # type: ignore[no-any-return, no-untyped-call]

    cnn, x = Centred(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.rand(4, 1, 5, 5)
    before = x.clone()
    efcn = cnn_to_efcn(cnn, x)
    assert verify_equivalence(cnn, efcn, x)["output"] < 1e-5
    assert torch.equal(x, before)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="no floating-point tensors"):
        verify_equivalence(Returning("text"), Returning("text"), X)


def test_in_place_code_does_not_hide_a_difference() -> None:
    cnn = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    x = torch.rand(4, 1, 5, 5)
    efcn: Any = cnn_to_efcn(cnn, x)
    with torch.no_grad():
        efcn[0].bias.sub_(100)
        for own in cnn[0].parameters():
            own.mul_(-3)
    assert verify_equivalence(cnn, efcn, x)["0"] > 0.5


class InAList(nn.Module):
    """Its forward goes by a plain list, which knows nothing of module names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)]
        for i, block in enumerate(self.blocks):
            self.add_module(f"block{i}", block)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_convolutions_in_plain_lists_are_mapped() -> None:
    cnn, x = InAList(), torch.randn(3, 1, 7, 7)
    efcn: Any = cnn_to_efcn(cnn, x)
    assert all(isinstance(block, LocallyConnected2d) for block in efcn.blocks)
    assert efcn.blocks[0] is efcn.block0
    efcn(x).sum().backward()
    assert efcn.block0.weight.grad is not None
    assert all(p.grad is None for p in cnn.parameters())
    back: Any = efcn_to_cnn(efcn)
    assert isinstance(back.blocks[0], nn.Conv2d)
    torch.testing.assert_close(back(x), cnn(x))


class Counting(nn.Module):
    """Changes a buffer and a parameter when it runs, and draws random numbers in evaluation."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(1, 1, 3), nn.Parameter(torch.ones(1))
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        self.scale.data.add_(1)
        return torch.dropout(self.conv(x), 0.5, True) * self.scale


def test_the_model_and_the_random_state_are_left_alone() -> None:
    cnn, x = Counting(), torch.randn(2, 1, 5, 5)
    state = torch.random.get_rng_state()
    efcn: Any = cnn_to_efcn(cnn, x)
    for model in (cnn, efcn):
        assert (model.runs, model.scale) == (0, 1)
    assert torch.equal(torch.random.get_rng_state(), state)


class TwoDimensional(nn.Module):
    """Code that only bears batch-last images one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        n, c, h, w = y.shape
        return y.view(n * c, h * w)


class TrainingHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.view(x.size(0), -1) if self.training else y


@pytest.mark.parametrize("make", [TwoDimensional, TrainingHead])
def test_batch_last_must_hold_for_every_batch_and_mode(make: Any) -> None:
    cnn, x = make(), torch.randn(5, 1, 5, 5)
    efcn = cnn_to_efcn(cnn, x[:1])
    torch.testing.assert_close(efcn(x), cnn(x))
