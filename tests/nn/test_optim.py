"""EFCNSGD: fused and unfused have the same bits, in every engine, and both are torch's SGD."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import EFCNSGD, BlockLayout, EFCNLinear, LocallyConnected2d, bsr_linear
from efcn_kernels.nn import BlockSparse
from efcn_kernels.ops import dispatch, passes
from efcn_kernels.ops.backends import cpu
from efcn_kernels.ops.sgd import PIECE, SGD, sgd_step
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, random_layout

RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "decay": {"weight_decay": 0.05},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.05},
    "nesterov": {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# blocks that are summed up along the batch and along channels, with and without a rest
BLOCKS = [(64, 3), (17, 29), (8, 16), (1, 1), (5, 33)]


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", list(LAYERS))
def test_fused_has_the_bits_of_unfused(engine: Engine, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, poisoned: None) -> None:
    monkeypatch.setattr(dispatch, "wish", engine.backend)
    model = LAYERS[name]().to(dtype)
    for rule in RULES.values():
        fused = trained(model, True, **rule)
        assert equal(fused, trained(model, False, **rule))
        assert all(p.isfinite().all() for p in fused)
        assert not equal(fused[: len(list(model.parameters()))], list(model.parameters())), "it has trained"


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
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
            assert torch.equal(values, wanted)
            assert buffer is None or wanted_buffer is None or torch.equal(buffer, wanted_buffer)
            assert (memory[:32] == 7.25).all()
            assert (memory[-32:] == 7.25).all()


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
        assert equal(trained(model, True, **RULES["nesterov"]), alone)
        assert equal(trained(model, False, **RULES["nesterov"]), alone)


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pieces_make_no_difference(dtype: torch.dtype) -> None:
    """A tensor of several pieces, one that cannot be cut, and float64 as the judge."""
    step = SGD(0.1, 0.9, 0.01, True)
    given = [torch.randn(3, PIECE // 2 + 5).to(dtype) for _ in range(3)]
    results = []
    for lay in (torch.Tensor.clone, lambda t: t.T.contiguous().T, torch.Tensor.double):
        weights, buffer, gradient = (lay(t) for t in given)
        sgd_step(weights, buffer, gradient, step)
        results.append((weights, buffer))
    assert equal(list(results[0]), list(results[1]))
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
