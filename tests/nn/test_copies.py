"""Networks stay batch-last between their two ends: torch's profiler counts the copies of a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.operators import profile
from efcn_kernels import batch_last, cnn_to_efcn
from tests.support.models import NETWORKS, BasicBlock

N, C, SIZE = 20, 4, 8
# fewer than any image between the layers has, more than any weight of the normalisation
LEAST = 2 * N


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)


BETWEEN: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "max-pooling": lambda: nn.MaxPool2d(3, 2, 1),
    "average-pooling": lambda: nn.AvgPool2d(2),
    "adaptive average-pooling": lambda: nn.AdaptiveAvgPool2d(4),
    "adaptive max-pooling": lambda: nn.AdaptiveMaxPool2d(4),
    "upsampling": lambda: nn.Upsample(scale_factor=2),
    "normalisation": lambda: nn.BatchNorm2d(C),
    "normalisation, relu in place": lambda: nn.Sequential(nn.BatchNorm2d(C), nn.ReLU(inplace=True)),
    "dropout": nn.Dropout,
    "dropout of channels": nn.Dropout2d,
    "residual": lambda: Function(lambda x: x + F.relu(x)),
    "squeeze and excite": lambda: Function(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    "resnet's block": lambda: BasicBlock(C, C, 1),
    "resnet's block, strided": lambda: BasicBlock(C, C, 2),
    "all together": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(C), nn.MaxPool2d(2), nn.Dropout(), BasicBlock(C, C, 1), nn.AvgPool2d(2)),
}
INPUT = [(N, SIZE, SIZE, 3), (SIZE * SIZE * 3, N)]


def network(between: nn.Module, *end: nn.Module) -> tuple[nn.Module, Tensor]:
    """(the network with `between` between its first and last convolution, images)."""
    x = torch.randn(N, 3, SIZE, SIZE)
    cnn = nn.Sequential(nn.Conv2d(3, C, 3, padding=1), between, nn.Conv2d(C, C, 1), *end)
    return cnn_to_efcn(cnn, x[:2]), x


def step(model: nn.Module, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    gradient = torch.randn_like(model(x))

    def call() -> None:
        optimizer.zero_grad()
        model(x).backward(gradient)
        optimizer.step()

    # gradients and momentum are there from the first step on
    call()
    return call


@pytest.mark.parametrize("name", list(BETWEEN))
def test_only_the_ends_are_copied(name: str) -> None:
    model, x = network(BETWEEN[name](), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert profile(step(model, x), LEAST).copies == INPUT
    assert profile(step(model, batch_last(x)), LEAST).copies == []


@pytest.mark.parametrize("name", list(BETWEEN))
def test_what_the_layers_are_given_is_batch_last(name: str) -> None:
    """Images and gradients in another order would be packed by the kernels and transposed by what reads both."""
    model, x = network(BETWEEN[name](), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with Orders() as orders:
        step(model, x)()
    assert len(orders.seen) >= 2 * 2 * 5
    assert set(orders.seen) == {1}


def test_flattening_several_sites_is_the_other_end() -> None:
    """Once in each direction."""
    model, x = network(nn.BatchNorm2d(C), nn.MaxPool2d(2), nn.Flatten())
    copies = profile(step(model, x), LEAST).copies
    sites = SIZE // 2
    assert copies == [*INPUT, (N, C, sites, sites), (sites, sites, C, N)]


def test_resnet18() -> None:
    make, example = NETWORKS["resnet18"]
    x = torch.cat([example()] * 5)
    model = cnn_to_efcn(make(), x[:2])
    # the smallest image has one site and 64 channels, the logits are fewer
    assert len(profile(step(model, x), 11 * len(x)).copies) == 2


def test_a_copy_is_seen() -> None:
    model, x = network(Function(lambda x: F.max_pool2d(x, 2)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert len(profile(step(model, x), LEAST).copies) > len(INPUT)
    model, x = network(Function(lambda x: x.contiguous()), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert len(profile(step(model, x), LEAST).copies) > len(INPUT)


class Orders(TorchDispatchMode):
    """Notes the batch's stride in images that go into operators of this package and come out of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        if name.startswith("efcn.bsr_linear"):
            given = {"efcn.bsr_linear_backward_weight.default": args[:2]}.get(name, (args[0], out))
            self.seen += [t.stride(0) for t in given]
        return out
