"""What cannot be mapped exactly is refused, by name, and before anything changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from efcn_kernels import cnn_to_efcn
from tests.support.models import Shared


class TwoSizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.max_pool2d(self.conv(x), 2))
        return y


class NeverCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.used(x)
        return y


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(self.conv(x))
        return y


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


class WeightUsedOutside(nn.Module):
    """The module is called, and its weight is used again by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.conv(x), self.conv.weight, padding=1)


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight - self.weight.mean(), self.bias)


class OwnInner(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = super()._conv_forward(input, weight * 2, bias)
        return y


class Renamed(nn.Conv2d):
    """A subclass that adds nothing of its own is no obstacle."""


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def tied() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    model[1].weight = model[0].weight
    return model


def parametrised() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    parametrize.register_parametrization(model[0], "weight", Doubled())
    return model


def normed() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 3, 3)))


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    model[0].register_forward_hook(lambda _m, _i, out: out * 2)
    return model


def pre_hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    model[0].register_forward_pre_hook(lambda _m, i: (i[0] * 2,))
    return model


def overridden() -> nn.Module:
    """A forward put on the instance."""
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    model[0].forward = lambda x: x * 2
    return model


CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two sizes": (TwoSizes, r"'conv' is called at several sizes \[\(4, 4\), \(8, 8\)\]"),
    "never called": (NeverCalled, "'idle' is never called"),
    "functional": (Functional, "called as a function in the forward of 'inner'"),
    "weight used outside": (WeightUsedOutside, "called as a function in the forward of 'WeightUsedOutside'"),
    "own forward": (lambda: nn.Sequential(Standardised(3, 2, 3)), "'0' is a Standardised with a forward of its own"),
    "own inner forward": (lambda: nn.Sequential(OwnInner(3, 2, 3)), "'0' is a OwnInner with a forward of its own"),
    "forward of the instance": (overridden, "'0'"),
    "tied": (tied, "'1' shares a parameter"),
    "parametrised": (parametrised, "'0' is parametrised"),
    "weight norm": (normed, "'0' is parametrised"),
    "forward hook": (hooked, "'0' has hooks"),
    "forward pre-hook": (pre_hooked, "'0' has hooks"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(3, 3)), "'0' is lazy"),
    "no convolution": (lambda: nn.Sequential(nn.Flatten()), "no convolution to map"),
    "does not run": (lambda: nn.Sequential(nn.Conv2d(5, 2, 3)), "does not run on the example input"),
}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_refused_by_name(name: str) -> None:
    make, says = CASES[name]
    model = make()
    with pytest.raises(ValueError, match=says):
        cnn_to_efcn(model, torch.randn(2, 3, 8, 8))
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert hooks == (1 if "hook" in name else 0) + (1 if name == "lazy" else 0) * hooks


def test_all_problems_are_named_at_once() -> None:
    model = nn.Sequential(Standardised(3, 2, 3), OwnInner(2, 2, 3))
    with pytest.raises(ValueError, match=r"'0'.*'1'"):
        cnn_to_efcn(model, torch.randn(2, 3, 8, 8))


def test_a_module_under_two_names_is_no_tie() -> None:
    assert cnn_to_efcn(Shared(), torch.randn(2, 3, 8, 8)) is not None


def test_a_plain_subclass_is_mapped() -> None:
    model = nn.Sequential(Renamed(3, 2, 3))
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(cnn_to_efcn(model, x)(x), model(x))


def test_unbatched_examples() -> None:
    """A convolution takes (C, H, W) too; so does its replacement."""
    model, x = nn.Sequential(nn.Conv2d(3, 2, 3)), torch.randn(3, 8, 8)
    torch.testing.assert_close(cnn_to_efcn(model, x)(x), model(x))


def test_keyword_call_of_a_convolution() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Any:
            return self.conv(input=x)

    model, x = Keyword(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(cnn_to_efcn(model, x)(x), model(x))
