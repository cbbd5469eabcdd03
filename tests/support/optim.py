"""What the tests of EFCNSGD share: its rules, layers that it trains, and loops of training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from efcn_kernels import EFCNSGD, BlockLayout, EFCNLinear, LocallyConnected2d
from efcn_kernels.nn import BlockSparse
from tests.support.judge import check_equal

RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "decay": {"weight_decay": 0.05},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.05},
    "nesterov": {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
}
# of a whole optimizer
RULE: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}


def masked(co: int = 5, ci: int = 3) -> BlockLayout:
    free = torch.rand(4 * co, 4 * ci, generator=torch.Generator().manual_seed(2)) > 0.5
    return BlockLayout.from_mask(free, (co, ci))


# each layer takes (N, 4, 6, 6) images
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: LocallyConnected2d(4, 18, 6, 3, padding=1),
    "halo": lambda: LocallyConnected2d(4, 5, 6, 3, stride=2, support=1),
    "groups": lambda: LocallyConnected2d(4, 6, 6, 3, groups=2),
    "masked": lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 3)), nn.Flatten(), EFCNLinear(12, 20, masked())),
    "two": lambda: nn.Sequential(LocallyConnected2d(4, 17, 6, 3), nn.ReLU(), nn.BatchNorm2d(17), LocallyConnected2d(17, 3, 4, 2)),
}


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    layers = [layer for layer in model.modules() if isinstance(layer, BlockSparse)]
    return [p for layer in layers for p in (layer.weight, layer.off_weight) if p is not None]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, n: int = 9, seed: int = 3) -> None:
    """Some steps of a falling learning rate on random images."""
    draw = torch.Generator().manual_seed(seed)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(n, 4, 6, 6, generator=draw).to(dtype)
        model(x).float().square().mean().backward()
        for p in weights_of(model):
            assert (p.grad is None) == (isinstance(optimizer, EFCNSGD) and bool(optimizer.param_groups[0]["fused"]))
        optimizer.step()
        scheduler.step()


def trained(model: nn.Module, fused: bool, **rule: Any) -> list[Tensor]:
    """All parameters and momenta of a copy after training."""
    model = copy.deepcopy(model)
    optimizer = EFCNSGD(model.parameters(), 0.1, fused=fused, **rule)
    train(model, optimizer)
    return [*model.parameters(), *(optimizer.state[p]["momentum_buffer"] for p in model.parameters() if rule.get("momentum"))]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(s, t) for s, t in zip(a, b))


def check_models(got: list[Tensor], wanted: list[Tensor], where: str) -> None:
    """The same bits in all parameters and momenta."""
    assert len(got) == len(wanted), where
    check_equal(got, wanted, [f"tensor {number} of parameters and momenta" for number in range(len(got))], where)


def layer() -> LocallyConnected2d:
    return LocallyConnected2d(4, 4, 6, 3, padding=1)


def images(n: int = 5) -> Tensor:
    return torch.randn(n, 4, 6, 6)
