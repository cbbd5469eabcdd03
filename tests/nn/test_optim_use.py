"""EFCNSGD(fused=True) in every kind of training loop: a gradient is applied, or it lies in .grad, or an error says why not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from efcn_kernels import EFCNSGD, LocallyConnected2d
from tests.support.optim import RULE, check_models, images, layer, train

Loop = Callable[[LocallyConnected2d, EFCNSGD], None]


def as_unfused(loop: Loop) -> LocallyConnected2d:
    """The same loop, fused and unfused, ends with the same bits; returns the fused layer."""
    models = [layer()]
    models.append(copy.deepcopy(models[0]))
    for model, fused in zip(models, (True, False)):
        torch.manual_seed(5)
        loop(model, EFCNSGD(model.parameters(), **RULE, fused=fused))
    check_models(list(models[0].parameters()), list(models[1].parameters()), f"fused and unfused after {loop.__qualname__}")
    return models[0]


def test_a_weight_used_twice_in_a_graph() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            model(model(images())).square().mean().backward()
            assert model.weight.grad is not None
            optimizer.step()

    model = as_unfused(loop)
    assert model.weight.grad is not None
    model.zero_grad()
    train(model, EFCNSGD(model.parameters(), fused=True))
    assert model.weight.grad is None, "used once it is fused again"


def test_two_graphs_alive_at_once() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        one, other = model(images()).square().mean(), model(images()).mean()
        one.backward()
        other.backward()
        optimizer.step()

    as_unfused(loop)


def test_gradients_added_to_an_existing_one() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        model.weight.grad = torch.zeros_like(model.weight)
        for _ in range(2):
            for _ in range(3):
                model(images()).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    as_unfused(loop)


def test_a_second_backward_before_the_step() -> None:
    model = layer()
    optimizer = EFCNSGD(model.parameters(), **RULE, fused=True)
    model(images()).sum().backward()
    after_one = model.weight.detach().clone()
    assert model.weight.grad is None
    y = model(images())
    with pytest.raises(RuntimeError, match=r"call step\(\) after each backward"):
        y.sum().backward()
    assert torch.equal(model.weight, after_one)
    optimizer.step()
    model(images()).sum().backward()
    assert not torch.equal(model.weight, after_one)


@pytest.mark.parametrize("stepped", [True, False])
def test_one_graph_twice(stepped: bool) -> None:
    model = layer()
    optimizer = EFCNSGD(model.parameters(), **RULE, fused=True)
    loss = model(images()).sum()
    loss.backward(retain_graph=True)
    if stepped:
        optimizer.step()
    # torch's own check of saved tensors, where the step was made
    with pytest.raises(RuntimeError, match="modified by an inplace operation" if stepped else "call step"):
        loss.backward()


def test_a_graph_kept_for_another_gradient() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        x = images().requires_grad_()
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            (gx,) = torch.autograd.grad(loss, x, retain_graph=True)
            (gvalues,) = torch.autograd.grad(loss, model.weight, retain_graph=True)
            assert gx.abs().sum() > 0
            assert gvalues.abs().sum() > 0
            loss.backward()
            assert (model.weight.grad is None) == optimizer.param_groups[0]["fused"]
            optimizer.step()

    as_unfused(loop)


@pytest.mark.parametrize("of", ["x", "values", "inputs="])
def test_gradients_that_are_only_asked_for_change_nothing(of: str) -> None:
    model = layer()
    _ = optimizer = EFCNSGD(model.parameters(), **RULE, fused=True)
    before = model.weight.detach().clone()
    x = images().requires_grad_()
    loss = model(x).square().mean()
    if of == "inputs=":
        loss.backward(inputs=[x])
        assert x.grad is not None
    else:
        wanted = {"x": x, "values": model.weight}[of]
        (gradient,) = torch.autograd.grad(loss, wanted)
        assert gradient.shape == wanted.shape
    assert torch.equal(model.weight, before)
    assert model.weight.grad is None
    model(images()).sum().backward()
    assert not torch.equal(model.weight, before), "the next one is fused"
    assert optimizer.state[model.weight]


def test_gradients_of_gradients() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        for _ in range(2):
            optimizer.zero_grad()
            x = images().requires_grad_()
            loss = model(x).square().mean()
            (gx,) = torch.autograd.grad(loss, x, create_graph=True)
            (loss + gx.square().sum()).backward()
            optimizer.step()

    as_unfused(loop)


def test_forward_alone_changes_nothing() -> None:
    model = layer()
    _ = EFCNSGD(model.parameters(), **RULE, fused=True)
    before = copy.deepcopy(model)
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            model(images())
    model.eval()(images())
    check_models(list(model.parameters()), list(before.parameters()), "after a step that was refused")


def test_frozen_weights() -> None:
    model = layer()
    model.weight.requires_grad_(False)
    before = copy.deepcopy(model)
    train(model, EFCNSGD(model.parameters(), **RULE, fused=True))
    assert torch.equal(model.weight, before.weight)
    assert not torch.equal(model.bias, before.bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant: bool) -> None:
    """The forward that a backward repeats is no second use."""

    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        other = copy.deepcopy(model)
        both = nn.Sequential(model, nn.Tanh(), other)
        optimizer.add_param_group({"params": list(other.parameters())})
        for _ in range(3):
            optimizer.zero_grad()
            x = images().requires_grad_()
            torch.utils.checkpoint.checkpoint(both, x, use_reentrant=reentrant).square().mean().backward()
            for p in (model.weight, other.weight):
                assert (p.grad is None) == optimizer.defaults["fused"]
            optimizer.step()

    as_unfused(loop)


def test_saved_tensors_that_are_copies() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        with torch.autograd.graph.saved_tensors_hooks(torch.Tensor.clone, lambda t: t):
            train(model, optimizer)

    as_unfused(loop)


def test_hooks_see_the_gradient() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        loss = model(images()).square().mean()
        model.weight.register_hook(lambda g: g * 2)
        loss.backward()
        optimizer.step()

    as_unfused(loop)


def test_autocast_takes_the_ordinary_way() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        for _ in range(2):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                y = model(images())
            y.float().square().mean().backward()
            optimizer.step()

    as_unfused(loop)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_takes_the_ordinary_way() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        torch._dynamo.reset()
        compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
        for _ in range(2):
            optimizer.zero_grad()
            compiled(images()).square().mean().backward()
            assert model.weight.grad is not None
            optimizer.step()

    as_unfused(loop)


def test_a_closure() -> None:
    def loop(model: LocallyConnected2d, optimizer: EFCNSGD) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = model(images()).square().mean()
            loss.backward()
            return loss

        assert optimizer.step(closure) > optimizer.step(closure)

    as_unfused(loop)


def test_use_outside_of_the_layer_is_found() -> None:
    model = layer()
    optimizer = EFCNSGD(model.parameters(), fused=True)
    (model(images()).sum() + model.weight.sum()).backward()
    with pytest.raises(RuntimeError, match="used outside of their layer"):
        optimizer.step()


def test_a_scaler_is_refused() -> None:
    model = layer()
    scaler = torch.amp.GradScaler("cpu")
    for fused in (False, True):
        optimizer = EFCNSGD(model.parameters(), lr=1e-6, fused=fused)
        optimizer.zero_grad()
        scaler.scale(model(images()).sum()).backward()
        if fused:
            with pytest.raises(RuntimeError, match="use fused=False with GradScaler"):
                scaler.step(optimizer)
        else:
            scaler.step(optimizer)
            scaler.update()


def test_groups_choose_for_themselves() -> None:
    model = LocallyConnected2d(4, 4, 6, 3, support=1)
    assert model.off_weight is not None
    optimizer = EFCNSGD([{"params": [model.weight], "fused": True}, {"params": [model.off_weight], "lr": 0.0}, {"params": [model.bias]}], lr=0.1)
    model(images()).sum().backward()
    assert [p.grad is None for p in (model.weight, model.off_weight)] == [True, False]
    optimizer.step()
    assert (model.off_weight == 0).sum() == 0
