"""EFCNSGD and its state: resuming, copies, successors, and options that cannot be."""

from __future__ import annotations

import copy
import gc
import io
from typing import Any

import pytest
import torch
from torch import nn

from efcn_kernels import EFCNSGD, BlockLayout, EFCNLinear
from tests.support.optim import LAYERS, RULE, check_models, images, layer, train


@pytest.mark.parametrize("source", [EFCNSGD, torch.optim.SGD])
@pytest.mark.parametrize("fused", [True, False])
def test_resuming(fused: bool, source: Any) -> None:
    model = LAYERS["two"]().double()
    first = source(model.parameters(), **RULE)
    train(model, first, 2)
    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": first.state_dict()}, saved)
    train(model, first, 2, seed=4)
    saved.seek(0)
    state = torch.load(saved, weights_only=True)
    resumed = LAYERS["two"]().double()
    second = EFCNSGD(resumed.parameters(), lr=3.0, fused=fused)
    resumed.load_state_dict(state["model"])
    second.load_state_dict(state["optimizer"])
    assert second.param_groups[0]["fused"] == fused
    # the scheduler of the first training has left its mark
    for group in second.param_groups:
        group.pop("initial_lr")
    train(resumed, second, 2, seed=4)
    for p, q in zip(resumed.parameters(), model.parameters()):
        torch.testing.assert_close(p, q)


def test_loading_a_fused_state_takes_nothing_over() -> None:
    model = LAYERS["two"]()
    fused = EFCNSGD(model.parameters(), **RULE, fused=True)
    train(model, fused, 1)
    EFCNSGD(model.parameters(), **RULE).load_state_dict(fused.state_dict())
    train(model, fused, 1)


def test_copies_train_by_themselves() -> None:
    model = LAYERS["two"]()
    optimizer = EFCNSGD(model.parameters(), **RULE, fused=True)
    train(model, optimizer, 1)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = [p.detach().clone() for p in model.parameters()]
    train(twin, twin_optimizer, 2)
    check_models(list(model.parameters()), before, "the first model after its copies were trained")
    train(model, optimizer, 2)
    check_models(list(model.parameters()), list(twin.parameters()), "a model and its deep copy")
    pickled = torch.load(io.BytesIO(dump(model)), weights_only=False)
    check_models(list(pickled.parameters()), list(model.parameters()), "a pickled model and its first")


def dump(model: nn.Module) -> bytes:
    memory = io.BytesIO()
    torch.save(model, memory)
    return memory.getvalue()


def test_an_optimizer_that_is_gone_updates_nothing() -> None:
    model = layer()
    optimizer = EFCNSGD(model.parameters(), **RULE, fused=True)
    y = model(images())
    before = model.weight.detach().clone()
    gc.disable()
    try:
        del optimizer
        y.sum().backward()
    finally:
        gc.enable()
    assert model.weight.grad is not None
    assert torch.equal(model.weight, before)


def test_the_later_optimizer_takes_over() -> None:
    model = layer()
    first, second = (EFCNSGD(model.parameters(), lr=lr, fused=True) for lr in (0.5, 0.0))
    before = model.weight.detach().clone()
    model(images()).sum().backward()
    assert torch.equal(model.weight, before), "its rate is 0"
    with pytest.raises(RuntimeError, match="a later EFCNSGD"):
        first.step()
    second.step()


def test_another_layout_needs_another_optimizer() -> None:
    model = EFCNLinear(12, 8, BlockLayout.full(4, 4, (2, 3)))
    optimizer = EFCNSGD(model.parameters(), **RULE, fused=True)
    model(torch.randn(2, 12)).sum().backward()
    optimizer.step()
    model.load_state_dict(EFCNLinear(12, 8, BlockLayout.from_block_mask(torch.eye(4), (2, 3))).state_dict())
    y = model(torch.randn(2, 12))
    with pytest.raises(RuntimeError, match=r"momentum is \(16, 2, 3\) torch.float32 on cpu but its weights are now \(4, 2, 3\)"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1.0"),
        ({"lr": float("nan")}, "lr must be at least 0, got nan"),
        ({"momentum": -0.1}, "momentum must be at least 0, got -0.1"),
        ({"weight_decay": -2.0}, "weight_decay must be at least 0, got -2.0"),
        ({"nesterov": True}, "nesterov needs momentum > 0, got momentum=0.0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EFCNSGD(layer().parameters(), **options)
    with pytest.raises(ValueError, match=says):
        EFCNSGD([{"params": list(layer().parameters()), **options}])


def test_a_state_with_what_is_not_there() -> None:
    parameters = list(layer().parameters())
    state = torch.optim.SGD(parameters, momentum=0.9, dampening=0.5).state_dict()
    with pytest.raises(ValueError, match=r"EFCNSGD has no dampening, got dampening=0.5"):
        EFCNSGD(parameters).load_state_dict(state)


def test_the_state_of_another_rule_is_refused() -> None:
    weights = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match=r"the state has no momentum, nesterov: expected that of EFCNSGD or torch\.optim\.SGD"):
        EFCNSGD([weights], lr=0.1).load_state_dict(torch.optim.Adam([weights]).state_dict())
