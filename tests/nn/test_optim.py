"""EFCNSGD: fused and unfused have the same bits, in every engine, and both are torch's SGD."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import EFCNSGD, BlockLayout, bsr_linear
from efcn_kernels.ops import dispatch, passes
from efcn_kernels.ops.backends import cpu
from efcn_kernels.ops.sgd import PIECE, SGD, sgd_step
from tests.support.judge import check_equal, setting
from tests.support.memory_orders import ORDERS
from tests.support.optim import LAYERS, RULES, check_models, equal, masked, train, trained
from tests.support.oracle import Engine, random_layout
from tests.support.problems import DTYPES

# blocks that are summed up along the batch and along channels, with and without a rest
BLOCKS = [(64, 3), (17, 29), (8, 16), (1, 1), (5, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(LAYERS))
def test_fused_has_the_bits_of_unfused(engine: Engine, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, poisoned: None) -> None:
    monkeypatch.setattr(dispatch, "wish", engine.backend)
    model = LAYERS[name]().to(dtype)
    for words, rule in RULES.items():
        fused = trained(model, True, **rule)
        check_models(fused, trained(model, False, **rule), f"{name}, {dtype}, {engine}, {words}: fused against unfused")
        assert all(p.isfinite().all() for p in fused), words
        assert not equal(fused[: len(list(model.parameters()))], list(model.parameters())), f"{words}: it has not trained"


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_the_op_steps_by_the_gradient_of_its_twin(engine: Engine, block: tuple[int, int], dtype: torch.dtype, rule: str, poisoned: None) -> None:
    """Masked too, from every memory order, and nothing is written beside the weights."""
    layout = random_layout(5, 7, block, 0.4)
    ops, index = torch.ops.efcn, (*layout.index(torch.device("cpu"))[:-1], engine.backend)
    step = SGD(**{"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False} | RULES[rule])
    shape = (layout.nnzb, *block)
    for n, order in [(0, "contiguous"), (1, "batch-last"), (7, "nchw"), (33, "sliced"), (64, "batch-last")]:
        x, gy = (ORDERS[order](torch.randn(n, sites, channels).to(dtype)) for sites, channels in ((7, block[1]), (5, block[0])))
        for mask in (None, torch.rand(shape) > 0.3):
            memory = torch.full((layout.nnzb * block[0] * block[1] + 64,), 7.25, dtype=dtype)
            values = memory[32:-32].view(shape)
            values.copy_(torch.randn(shape))
            buffer = torch.randn(shape).to(dtype) if step.momentum else None
            wanted, wanted_buffer = values.clone(), None if buffer is None else buffer.clone()
            gradient = ops.bsr_linear_backward_weight(gy, x, *index)
            sgd_step(wanted, wanted_buffer, gradient if mask is None else gradient * mask, step)
            ops.bsr_linear_backward_weight_sgd(values, buffer, gy, x, mask, *step, *index)
            note = f"{rule}, {'no mask' if mask is None else 'masked'}: fused against the gradient and a step"
            where = setting(engine, layout, {"values": values, "x": x, "gy": gy}, note)
            check_equal([values, buffer], [wanted, wanted_buffer], ("bsr_linear_backward_weight_sgd, values", "momentum_buffer"), where)
            assert (memory[:32] == 7.25).all(), f"written before the weights\n{where}"
            assert (memory[-32:] == 7.25).all(), f"written behind the weights\n{where}"


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("rule", list(RULES))
def test_it_is_the_sgd_of_torch(rule: str, name: str) -> None:
    model = LAYERS[name]().double()
    wanted = copy.deepcopy(model)
    train(wanted, torch.optim.SGD(wanted.parameters(), 0.1, **RULES[rule]))
    for p, q in zip(trained(model, True, **RULES[rule]), wanted.parameters()):
        torch.testing.assert_close(p, q)


def test_bit_equal_whatever_the_number_of_threads(engine: Engine, monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    engine.needs_own_sums()
    monkeypatch.setattr(dispatch, "wish", engine.backend)
    for name in ("convolution", "halo", "masked"):
        model = LAYERS[name]()
        torch.set_num_threads(1)
        alone = trained(model, True, **RULES["nesterov"])
        torch.set_num_threads(2)
        for fused in (True, False):
            check_models(trained(model, fused, **RULES["nesterov"]), alone, f"{name}, {engine}, {fused=}: on two threads against one")


def noting(called: list[str], name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        called.append(name)
        return compute(*arguments)

    return noted


def test_no_gradient_of_the_weights_is_ever_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "wish", engine.backend)
    called: list[str] = []
    for name in ("bsr_linear_backward_weight", "bsr_linear_backward_weight_sgd"):
        compute = getattr(passes, name)
        monkeypatch.setattr(passes, name, noting(called, name, compute))
    for fused, name in ((True, "bsr_linear_backward_weight_sgd"), (False, "bsr_linear_backward_weight")):
        model = LAYERS["halo"]()
        train(model, EFCNSGD(model.parameters(), fused=fused), 1)
        # of the local and of the off-local weights
        assert called == [name] * 2
        called.clear()


@pytest.mark.parametrize("dtype", DTYPES)
def test_pieces_make_no_difference(dtype: torch.dtype) -> None:
    """A tensor of several pieces, one that cannot be cut, and float64 as the judge."""
    step = SGD(0.1, 0.9, 0.01, True)
    given = [torch.randn(3, PIECE // 2 + 5).to(dtype) for _ in range(3)]
    results = []
    for lay in (torch.Tensor.clone, lambda t: t.T.contiguous().T, torch.Tensor.double):
        weights, buffer, gradient = (lay(t) for t in given)
        sgd_step(weights, buffer, gradient, step)
        results.append((weights, buffer))
    check_equal(results[1], results[0], ("weights", "buffer"), "a tensor that cannot be cut into pieces against one that can")
    for got, exact in zip(results[0], results[2]):
        torch.testing.assert_close(got, exact.to(dtype))


def test_opcheck(engine: Engine) -> None:
    layout = masked()
    index = (*layout.index(torch.device("cpu"))[:-1], engine.backend)
    values = torch.randn(layout.nnzb, *layout.block)
    for buffer, mask in [(None, None), (torch.randn_like(values), layout.mask)]:
        arguments = (values, buffer, torch.randn(3, 4, 5), torch.randn(3, 4, 3), mask, 0.1, 0.9, 0.0, False, *index)
        torch.library.opcheck(torch.ops.efcn.bsr_linear_backward_weight_sgd.default, arguments)


def test_a_layer_without_blocks() -> None:
    layout = BlockLayout(3, 4, (2, 5), [0, 0, 0, 0], [])
    values = nn.Parameter(torch.randn(0, 2, 5))
    optimizer = EFCNSGD([values], momentum=0.9, fused=True)
    bsr_linear(torch.randn(2, 4, 5), values, layout).sum().backward()
    optimizer.step()
    assert values.grad is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"buffer": torch.zeros(3, 2, 5)}, r"momentum_buffer must have the shape of values, \(12, 2, 5\), got \(3, 2, 5\)"),
        ({"buffer": torch.zeros(12, 2, 5).double()}, "momentum_buffer must be float32, got float64"),
        ({"mask": torch.ones(12, 2, 5)}, "mask must be bool, got float32"),
        ({"mask": torch.ones(2, 5).bool()}, r"mask must have the shape of values, \(12, 2, 5\), got \(2, 5\)"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor], says: str) -> None:
    if cpu.missing():
        pytest.skip(f"the kernels check their arguments: {cpu.missing()}")
    layout = BlockLayout.full(3, 4, (2, 5))
    given: dict[str, Any] = {"buffer": None, "mask": None} | change
    index = (*layout.index(torch.device("cpu"))[:-1], "cpu")
    values, gy, x = torch.zeros(12, 2, 5), torch.zeros(6, 3, 2), torch.zeros(6, 4, 5)
    with pytest.raises((ValueError, RuntimeError), match=says):
        torch.ops.efcn.bsr_linear_backward_weight_sgd(values, given["buffer"], gy, x, given["mask"], 0.1, 0.9, 0.0, False, *index)
