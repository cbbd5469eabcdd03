"""The Triton kernels against the dense float64 oracle: on a GPU where there is one, else in Triton's interpreter, which is slow: few small cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout, bsr_linear
from efcn_kernels.ops.backends import triton as backend
from efcn_kernels.ops.sgd import SGD, sgd_step
from efcn_kernels.verify.tolerance import disagreement
from tests.support import judge, problems
from tests.support.memory_orders import ORDERS
from tests.support.optim import RULES
from tests.support.oracle import Engine, expected, random_layout, run_passes
from tests.support.problems import CONV_PATTERNS, DTYPES, ODD_PATTERNS, OPS

pytestmark = [
    pytest.mark.skipif(backend.missing() is not None, reason=str(backend.missing())),
    pytest.mark.usefixtures("poisoned", "rounding"),
]
TRITON = Engine("triton", None)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCKS = [(17, 29), (32, 1), (64, 3), (10, 16)]


def tensors(layout: BlockLayout, n: int, dtype: torch.dtype, bias: bool = True) -> list[Any]:
    """[x, values, bias, gy] on the device, contiguous."""
    return [t if t is None else t.to(DEVICE) for t in problems.tensors(layout, n, dtype, bias)]


def check(layout: BlockLayout, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor) -> None:
    judge.check(TRITON, layout, x, values, bias, gy)


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 becomes the nearest bfloat16, as on a chip; the interpreter cuts it off."""
    from triton import language as tl
    from triton.runtime import interpreter

    def nearest(data: Any, source: Any, target: Any, mode: Any, real: Any = interpreter._convert_float) -> Any:
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(data).bfloat16().view(torch.uint16).numpy()
        return real(data, source, target, mode)

    monkeypatch.setattr(interpreter, "_convert_float", nearest)


@pytest.fixture
def large_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Choose tiles as for a problem that fills a GPU."""
    from efcn_kernels.ops.backends.triton import configs

    monkeypatch.setattr(configs, "PROGRAMS", 1)
    configs.candidates.cache_clear()
    yield
    configs.candidates.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_batches_and_blocks(block: tuple[int, int], dtype: torch.dtype) -> None:
    layout = random_layout(3, 4, block, 0.5, seed=sum(block))
    for n, order in [(0, "contiguous"), (1, "batch-last"), (3, "contiguous"), (8, "batch-last"), (33, "contiguous")]:
        x, values, bias, gy = tensors(layout, n, dtype, bias=n % 2 == 1)
        check(layout, ORDERS[order](x), values, bias, ORDERS[order](gy))


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_large_tiles_on_every_axis(dtype: torch.dtype, large_tiles: None) -> None:
    layout = random_layout(2, 5, (144, 40), 0.8)
    for order in ("batch-last", "site, batch, channel"):
        x, values, bias, gy = tensors(layout, 150, dtype)
        check(layout, ORDERS[order](x), values, bias, ORDERS[order](gy))


@pytest.mark.parametrize("block", [(64, 64), (32, 128)])
def test_blocks_of_whole_steps(block: tuple[int, int], large_tiles: None) -> None:
    """Nothing is gathered where a step of the reduction lies in one block."""
    layout = random_layout(2, 3, block, 0.8)
    for dtype, order in [(torch.float32, "batch-last"), (torch.bfloat16, "site, batch, channel")]:
        x, values, bias, gy = tensors(layout, 40, dtype)
        check(layout, ORDERS[order](x), values, bias, ORDERS[order](gy))


@pytest.mark.parametrize("order", list(ORDERS))
def test_memory_orders(order: str, large_tiles: None) -> None:
    """Each of x, gy and values in that order."""
    view = ORDERS[order]
    for block, dtype in [((5, 3), torch.float32), ((16, 8), torch.bfloat16)]:
        layout = random_layout(3, 4, block, 0.5)
        for n in (1, 17):
            x, values, bias, gy = tensors(layout, n, dtype)
            check(layout, view(x), values, bias, gy)
            check(layout, x, view(values), bias, view(gy))


@pytest.mark.parametrize(("name", "halo"), [*((name, 0) for name in CONV_PATTERNS), ("dilated", 1), ("depthwise", 1)])
def test_patterns_of_convolutions(name: str, halo: int, large_tiles: None) -> None:
    layout = BlockLayout.from_conv(CONV_PATTERNS[name], halo)
    x, values, bias, gy = tensors(layout, 5, torch.float32)
    check(layout, ORDERS["nchw"](x), values, bias, ORDERS["batch-last"](gy))


@pytest.mark.parametrize("name", list(ODD_PATTERNS))
def test_odd_patterns(name: str, large_tiles: None) -> None:
    for n, bias in [(0, True), (1, False), (19, True)]:
        x, values, offset, gy = tensors(ODD_PATTERNS[name], n, torch.float32, bias)
        check(ODD_PATTERNS[name], x, values, offset, gy)


def test_a_long_sum_in_half_precision(large_tiles: None) -> None:
    layout = BlockLayout.full(1, 32, (3, 32))
    for dtype in (torch.bfloat16, torch.float16):
        x, values, bias, gy = (t.abs() / 8 for t in tensors(layout, 300, dtype))
        check(layout, x, values, bias, gy)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_nan_stays_where_stored_blocks_take_it(large_tiles: None) -> None:
    """What masks leave out multiplies nothing, not even a NaN."""
    layout = BlockLayout(3, 3, (3, 5), [0, 1, 1, 3], [0, 1, 2])
    x, values, bias, gy = tensors(layout, 5, torch.float32)
    x[2, 0, 4], gy[1, 2, 2] = torch.nan, torch.inf
    got = run_passes(TRITON, x, values, bias, gy, layout)
    assert got.y.isnan().nonzero()[:, :2].unique(dim=0).tolist() == [[2, 0]]
    assert (~got.gx.isfinite()).nonzero()[:, :2].unique(dim=0).tolist() == [[1, 1], [1, 2]]
    assert got.gvalues.isnan().nonzero().tolist() == [[0, o, 4] for o in range(3)]
    assert got.gvalues.isinf().nonzero()[:, :2].unique(dim=0).tolist() == [[1, 2], [2, 2]]


@pytest.mark.parametrize("op", OPS)
def test_derivatives_of_first_and_second_order(op: str, large_tiles: None) -> None:
    layout = random_layout(3, 2, (2, 3), 0.8)
    index = (*layout.index(DEVICE)[:-1], "triton")
    given = [t.detach().to(DEVICE).requires_grad_() for t in problems.differentiable(layout, 2)[op]]

    def applied(*arguments: Tensor) -> Any:
        return getattr(torch.ops.efcn, op)(*arguments, *index)

    assert torch.autograd.gradcheck(applied, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(applied, given, fast_mode=True)


def test_masked_layers(large_tiles: None) -> None:
    layout = BlockLayout.from_mask(torch.rand(12, 10) > 0.5, (3, 2))
    x, values, bias, _ = tensors(layout, 5, torch.float64)
    values.requires_grad_()
    y, wanted = (bsr_linear(x, values, layout, bias, backend=name) for name in ("triton", "reference"))
    torch.testing.assert_close(y, wanted)
    assert layout.mask is not None
    (gradient,) = torch.autograd.grad(y.square().sum(), values)
    assert (gradient[~layout.mask.to(DEVICE)] == 0).all()


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fused_step_has_the_bits_of_its_twin(dtype: torch.dtype, rule: str, large_tiles: None) -> None:
    """Masked too, with empty batches, and nothing is written beside the weights."""
    block = (17, 5)
    layout = random_layout(3, 4, block, 0.5)
    ops, index = torch.ops.efcn, (*layout.index(DEVICE)[:-1], "triton")
    step = SGD(**{"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False} | RULES[rule])
    for n, order, masked in [(0, "contiguous", False), (7, "nchw", True), (33, "batch-last", False)]:
        x, _, _, gy = tensors(layout, n, dtype)
        x, gy = ORDERS[order](x), ORDERS[order](gy)
        shape = (layout.nnzb, *block)
        memory = torch.full((layout.nnzb * 85 + 64,), 7.25, dtype=dtype, device=DEVICE)
        values = memory[32:-32].view(shape)
        values.copy_(torch.randn(shape))
        mask = torch.rand(shape, device=DEVICE) > 0.3 if masked else None
        buffer = torch.randn(shape).to(DEVICE, dtype) if step.momentum else None
        wanted, wanted_buffer = values.clone(), None if buffer is None else buffer.clone()
        gradient = ops.bsr_linear_backward_weight(gy, x, *index)
        sgd_step(wanted, wanted_buffer, gradient if mask is None else gradient * mask, step)
        ops.bsr_linear_backward_weight_sgd(values, buffer, gy, x, mask, *step, *index)
        where = judge.setting(TRITON, layout, {"values": values, "x": x, "gy": gy}, f"{rule}, {masked=}: fused against the gradient and a step")
        judge.check_equal([values, buffer], [wanted, wanted_buffer], ("bsr_linear_backward_weight_sgd, values", "momentum_buffer"), where)
        assert (memory[:32] == 7.25).all(), f"written before the weights\n{where}"
        assert (memory[-32:] == 7.25).all(), f"written behind the weights\n{where}"


def test_a_fused_step_on_weights_with_gaps(large_tiles: None) -> None:
    layout = random_layout(3, 4, (3, 5), 0.5)
    x, values, _, gy = tensors(layout, 7, torch.float32)
    index, gaps = (*layout.index(DEVICE)[:-1], "triton"), torch.zeros(layout.nnzb, 3, 10, device=DEVICE)[:, :, ::2]
    gaps.copy_(values)
    for weights in (values, gaps):
        torch.ops.efcn.bsr_linear_backward_weight_sgd(weights, None, gy, x, None, 0.1, 0.0, 0.0, False, *index)
    where = judge.setting(TRITON, layout, {"values": gaps, "x": x, "gy": gy}, "weights with gaps")
    judge.check_equal([gaps], [values], ("bsr_linear_backward_weight_sgd, values",), where)


@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_agree(dtype: torch.dtype, large_tiles: None) -> None:
    layout = random_layout(4, 5, (18, 6), 0.6)
    x, values, bias, gy = tensors(layout, 21, dtype)
    exact = expected(x, values, bias, gy, layout)
    others = ["reference", *(["cpu"] if DEVICE.type == "cpu" else [])]
    mine = run_passes(TRITON, x, values, bias, gy, layout)
    for name in others:
        for op, a, b, product in zip(OPS, mine, run_passes(Engine(name, None), x, values, bias, gy, layout), exact):
            apart = disagreement(a, b, product.absolute)
            assert apart <= 1, f"{op} in {dtype}: triton and {name} are {apart:.3g} times as far apart as two correct results may be"
