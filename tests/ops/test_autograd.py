"""Derivatives to second order, torch's own checks of custom ops, and masked layers under optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import BlockLayout, EFCNLinear, LocallyConnected1d, LocallyConnected2d, LocallyConnected3d, bsr_linear
from efcn_kernels.ops import dispatch
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, random_layout
from tests.support.problems import OPS, differentiable


def applied(op: str, engine: Engine, layout: BlockLayout) -> Callable[..., Tensor]:
    index = (*layout.index(torch.device("cpu"))[:-1], engine.backend)
    return lambda *arguments: getattr(torch.ops.efcn, op)(*arguments, *index)


@pytest.mark.parametrize("op", OPS)
def test_gradcheck_of_the_ops(engine: Engine, op: str, poisoned: None) -> None:
    layout = random_layout(4, 3, (2, 3), 0.6)
    arguments = differentiable(layout)[op]
    assert torch.autograd.gradcheck(applied(op, engine, layout), arguments)
    assert torch.autograd.gradgradcheck(applied(op, engine, layout), arguments)


@pytest.mark.parametrize("order", ["batch-last", "nchw", "sliced", "one image repeated"])
def test_gradcheck_in_other_memory_orders(engine: Engine, order: str) -> None:
    layout = random_layout(3, 4, (2, 2), 0.6)
    values = torch.randn(layout.nnzb, 2, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    compute = applied("bsr_linear", engine, layout)
    assert torch.autograd.gradcheck(
        lambda x, v: compute(ORDERS[order](x) if order != "sliced" else x.repeat(1, 1, 2)[:, :, ::2], v, None), (x, values)
    )


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)])
def test_only_what_is_asked_for(engine: Engine, needs: tuple[bool, bool, bool]) -> None:
    """A frozen input or weight costs no pass."""
    layout = random_layout(4, 3, (2, 3), 0.6)
    arguments = [t.detach().requires_grad_(n) for t, n in zip(differentiable(layout)["bsr_linear"], needs)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.backward(applied("bsr_linear", engine, layout)(*arguments).sum())
    called = {e.key for e in profile.key_averages()}
    assert ("efcn::bsr_linear_backward_input" in called) == needs[0]
    assert ("efcn::bsr_linear_backward_weight" in called) == needs[1]
    assert [t.grad is not None for t in arguments] == list(needs)


@pytest.mark.parametrize("op", OPS)
def test_opcheck(engine: Engine, op: str) -> None:
    layout = random_layout(4, 3, (2, 3), 0.6)
    index = (*layout.index(torch.device("cpu"))[:-1], engine.backend)
    for order, dtype in [("contiguous", torch.float32), ("batch-last", torch.bfloat16)]:
        arguments = [t if t.size(0) != 9 else ORDERS[order](t.detach()).requires_grad_() for t in differentiable(layout, 9, dtype)[op]]
        torch.library.opcheck(getattr(torch.ops.efcn, op).default, (*arguments, *index))


def test_opcheck_without_a_bias() -> None:
    layout = random_layout(4, 3, (2, 3), 0.6)
    x, values, _ = differentiable(layout)["bsr_linear"]
    torch.library.opcheck(torch.ops.efcn.bsr_linear.default, (x, values, None, *layout.index(torch.device("cpu"))[:-1], "auto"))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("op", OPS)
def test_opcheck_of_empty_and_single_batches(op: str, n: int) -> None:
    layout = random_layout(4, 3, (2, 3), 0.6)
    index = (*layout.index(torch.device("cpu"))[:-1], "auto")
    torch.library.opcheck(
        getattr(torch.ops.efcn, op).default, (*differentiable(layout, n)[op], *index), test_utils=("test_schema", "test_faketensor")
    )


LAYERS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "EFCNLinear": lambda: (EFCNLinear(12, 8, random_layout(4, 4, (2, 3), 0.5)), (3, 12)),
    "EFCNLinear of a masked layout": lambda: (EFCNLinear(12, 8, masked_layout()), (3, 12)),
    "EFCNLinear of a convolution": lambda: (EFCNLinear.from_conv(nn.Conv2d(2, 4, 2, groups=2), 3, support=1), (2, 18)),
    "1d": lambda: (LocallyConnected1d(2, 3, 6, 3, 2, 1), (2, 2, 6)),
    "2d with groups": lambda: (LocallyConnected2d(4, 2, (3, 4), 2, groups=2), (2, 4, 3, 4)),
    "2d with a halo": lambda: (LocallyConnected2d(2, 2, 3, 2, support=1), (2, 2, 3, 3)),
    "2d circular": lambda: (LocallyConnected2d(1, 2, 3, 3, padding=1, padding_mode="circular"), (2, 1, 3, 3)),
    "3d": lambda: (LocallyConnected3d(2, 1, 3, 2), (2, 2, 3, 3, 3)),
}


def masked_layout() -> BlockLayout:
    return BlockLayout.from_mask(torch.rand(8, 12, generator=torch.Generator().manual_seed(1)) > 0.5, (2, 3))


@pytest.mark.parametrize("name", list(LAYERS))
def test_gradcheck_of_the_layers(name: str) -> None:
    made, shape = LAYERS[name]()
    layer = made.double()
    names = [n for n, _ in layer.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (x,))

    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    arguments = (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_masked_entries_stay_exactly_zero(name: str) -> None:
    layout = masked_layout()
    layer = EFCNLinear(12, 8, layout)
    assert layout.mask is not None
    outside = ~layout.mask
    optimizer = OPTIMIZERS[name](layer.parameters())
    before = layer.weight.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 12)).square().sum().backward()
        assert layer.weight.grad is not None
        assert (layer.weight.grad[outside] == 0).all()
        optimizer.step()
    assert (layer.weight[outside] == 0).all()
    assert (layer.weight[layout.mask] != before[layout.mask]).all(), "the others are trained"
    assert int((layer.to_dense() != 0).sum()) <= layout.nnz


def test_garbage_in_masked_entries_never_counts() -> None:
    """Whoever writes into them, by init or by averaging, changes no output and no dense form."""
    layer = EFCNLinear(12, 8, masked_layout())
    x = torch.randn(4, 12)
    y, dense = layer(x), layer.to_dense()
    with torch.no_grad():
        assert layer.layout.mask is not None
        layer.weight[~layer.layout.mask] = 100.0
    assert torch.equal(layer(x), y)
    assert torch.equal(layer.to_dense(), dense)


def test_autocast(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "wish", engine.backend)
    layer = LocallyConnected2d(3, 5, 6, 3, padding=1)
    x = torch.randn(7, 3, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        like_torch = nn.Conv2d(3, 5, 3)(x)
    assert y.dtype == like_torch.dtype == torch.bfloat16
    y.float().square().sum().backward()
    exact = layer(x)
    torch.testing.assert_close(y.float(), exact, rtol=0.03, atol=0.03)
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        assert layer(x).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.double()(x.double()).dtype == torch.float64, "as torch: float64 is left alone"


def test_clipping_and_norms_see_ordinary_parameters() -> None:
    layer = LocallyConnected2d(3, 5, 6, 3, padding=1, support=1)
    layer(torch.randn(2, 3, 6, 6)).square().sum().backward()
    total = nn.utils.clip_grad_norm_(layer.parameters(), 1e-3)
    assert total > 1e-3
    assert nn.utils.get_total_norm([p.grad for p in layer.parameters() if p.grad is not None]) <= 1.001e-3


def test_gradient_of_a_shared_call() -> None:
    """One layer used twice collects both gradients."""
    layer = LocallyConnected2d(2, 2, 4, 3, padding=1)
    x = torch.randn(3, 2, 4, 4)
    layer(layer(x)).sum().backward()
    twice = layer.weight.grad
    assert twice is not None
    layer.weight.grad = None
    inner = layer(x).detach().requires_grad_()
    layer(inner).sum().backward()
    assert inner.grad is not None
    layer(x).backward(inner.grad)
    torch.testing.assert_close(twice, layer.weight.grad)


def test_images_are_independent() -> None:
    layout = random_layout(4, 5, (3, 2), 0.5)
    x, values = torch.randn(6, 5, 2, dtype=torch.float64), torch.randn(layout.nnzb, 3, 2, dtype=torch.float64)
    whole = bsr_linear(x, values, layout)
    torch.testing.assert_close(whole, torch.cat([bsr_linear(x[i : i + 1], values, layout) for i in range(6)]))
