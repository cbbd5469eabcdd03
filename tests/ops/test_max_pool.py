"""Max-pooling of batch-last images against torch's: values, ties, NaN, gradients, second derivatives, and what is left to torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import batch_last
from efcn_kernels.nn import MaxPool2d
from efcn_kernels.ops.backends import cpu
from efcn_kernels.ops.max_pool import MOST_TAPS, Window, max_pool, window_of
from tests.support.problems import DTYPES

POOLS: dict[str, Any] = {
    "2": {"kernel_size": 2},
    "3/2": {"kernel_size": 3, "stride": 2},
    "3/2 padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "3/1 padded": {"kernel_size": 3, "stride": 1, "padding": 1},
    "3/2 ceil": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "2/3 ceil": {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    "gaps": {"kernel_size": 1, "stride": 3},
    "oblong": {"kernel_size": (1, 5), "stride": (2, 1), "padding": (0, 2)},
    "dilated": {"kernel_size": (3, 2), "stride": (1, 2), "dilation": (2, 3), "padding": (1, 0)},
    # on padding alone: what lies 1 to the left, and 3 from there
    "no pixel": {"kernel_size": (1, 2), "stride": 1, "padding": (0, 1), "dilation": (1, 8)},
    "4/4": {"kernel_size": 4, "padding": 2, "ceil_mode": True},
}
# (N, C): less than a vector, a vector, one and a bit, several tasks and a bit
BATCHES = [(2, 1), (5, 3), (8, 2), (11, 3), (250, 9)]

pytestmark = pytest.mark.skipif(cpu.missing() is not None, reason=str(cpu.missing()))


@pytest.fixture(params=cpu.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with cpu.forced_isa(request.param):
        yield request.param


def kept(**pool: Any) -> nn.MaxPool2d:
    return MaxPool2d(**pool)


def ours(y: Tensor) -> bool:
    """Whether this package's kernel made y: the graph leads to it by views alone."""
    node, seen = y.grad_fn, []
    while node is not None:
        seen.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    return any("max_pool" in name for name in seen)


@pytest.mark.parametrize("name", list(POOLS))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c"), BATCHES)
def test_it_is_torchs(isa: str, name: str, dtype: torch.dtype, n: int, c: int) -> None:
    """The same bits, ties included; sums of half gradients are rounded once here and at each step there."""
    # whole numbers: many ties
    x = torch.randint(-4, 4, (n, c, 11, 8)).to(dtype)
    a, b = x.clone().requires_grad_(), batch_last(x).requires_grad_()
    wanted, got = nn.MaxPool2d(**POOLS[name])(a), kept(**POOLS[name])(b)
    assert ours(got)
    assert torch.equal(got, wanted)
    g = torch.randint(-9, 9, wanted.shape).to(dtype)
    for gradient in (g, batch_last(g)):
        (ga,) = torch.autograd.grad(wanted, a, gradient, retain_graph=True)
        (gb,) = torch.autograd.grad(got, b, gradient, retain_graph=True)
        assert torch.equal(gb, ga)
        assert gb.stride(0) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_gradients_have_torchs_bits(isa: str, dtype: torch.dtype) -> None:
    x, g = torch.randn(33, 5, 9, 9, dtype=dtype), torch.randn(33, 5, 9, 9, dtype=dtype)
    found: list[Tensor] = []
    for pool, given in ((nn.MaxPool2d(3, 1, 1), x.clone()), (kept(kernel_size=3, stride=1, padding=1), batch_last(x))):
        found += torch.autograd.grad(pool(given.requires_grad_()), given, g)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_that_are_none(isa: str, dtype: torch.dtype) -> None:
    x = torch.randn(20, 3, 7, 7).to(dtype)
    x[torch.rand(x.shape) < 0.1] = torch.nan
    x[torch.rand(x.shape) < 0.3] = -torch.inf
    x[torch.rand(x.shape) < 0.1] = torch.inf
    x[:, 0, :3, :3] = -torch.inf
    x[:, 1, :3, :3] = torch.nan
    found = []
    for pool, given in ((nn.MaxPool2d(3, 2, 1), x.clone()), (kept(kernel_size=3, stride=2, padding=1), batch_last(x))):
        y = pool(given.requires_grad_())
        found.append((y, *torch.autograd.grad(y, given, torch.ones_like(y))))
    (wanted, wanted_gradient), (got, gradient) = found
    torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(gradient, wanted_gradient)


@pytest.mark.parametrize("name", list(POOLS))
def test_derivatives(name: str) -> None:
    pool, x = kept(**POOLS[name]), batch_last(torch.randn(3, 2, 6, 7, dtype=torch.float64)).requires_grad_()
    assert ours(pool(x))
    # a window on padding alone gives -inf, of which no difference can be taken
    finite = nn.Sequential(pool, nn.Hardtanh(-9, 9))
    assert torch.autograd.gradcheck(finite, x)
    assert torch.autograd.gradgradcheck(finite, x)


def test_a_third_derivative() -> None:
    found = []
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    for pool, given in ((nn.MaxPool2d(3, 2), x.clone()), (kept(kernel_size=3, stride=2), batch_last(x))):
        given.requires_grad_()
        loss = (pool(given) ** 4).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(loss, given, create_graph=True)
            loss = (gradient**2).sum()
        found.append(gradient)
    torch.testing.assert_close(*found)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    x, before, found = batch_last(torch.randn(250, 64, 17, 17)), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            given = x.detach().requires_grad_()
            y = kept(kernel_size=3, stride=2)(given)
            y.backward(torch.arange(8.0).expand_as(y))
            found.append((y.detach(), given.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for results in found[1:] for one, other in zip(results, found[0], strict=True))


def test_what_is_left_to_torch() -> None:
    x = batch_last(torch.randn(4, 2, 12, 12)).requires_grad_()
    assert ours(kept(kernel_size=4)(x))
    # more windows for each pixel than the gradient's pass should look at
    assert not ours(kept(kernel_size=5, stride=1)(x))
    assert not ours(nn.MaxPool2d(2)(x))
    values, indices = kept(kernel_size=2, return_indices=True)(x)
    assert not ours(values)
    assert torch.equal(indices, nn.MaxPool2d(2, return_indices=True)(x)[1])
    with torch.device("meta"):
        y = kept(kernel_size=2)(x)
        assert ours(y)
        (gradient,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((gradient**2).sum(), x)
    assert second.device.type == "cpu"


def test_functions_that_torch_transforms() -> None:
    x = batch_last(torch.randn(4, 2, 6, 6, dtype=torch.float64))
    pool, plain = kept(kernel_size=3, stride=2), nn.MaxPool2d(3, 2)
    assert torch.equal(torch.func.vmap(pool)(x.unsqueeze(0)), plain(x).unsqueeze(0))
    gradients = [torch.func.grad(lambda given, each=each: (each(given) ** 2).sum())(x) for each in (pool, plain)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", ["3/2 padded", "no pixel"])
def test_many_gradients_at_once(name: str) -> None:
    x = torch.randn(3, 2, 5, 8, dtype=torch.float64)
    pools = ((nn.MaxPool2d(**POOLS[name]), x), (kept(**POOLS[name]), batch_last(x)))
    first = [torch.autograd.functional.jacobian(pool, given, vectorize=True) for pool, given in pools]
    assert torch.equal(*first)
    second = [torch.autograd.functional.hessian(lambda t, pool=pool: (pool(t).clamp(min=-9) ** 3).sum(), t, vectorize=True) for pool, t in pools]
    torch.testing.assert_close(*second)


@pytest.mark.filterwarnings("ignore")
def test_a_trace() -> None:
    """torch's older way to export networks; it warns of each size that it takes for constant."""
    pool, x = kept(kernel_size=3, stride=2), batch_last(torch.randn(4, 2, 6, 6))
    traced = torch.jit.trace(pool, x)
    assert torch.equal(traced(2 * x), pool(2 * x))


@pytest.mark.parametrize("size", [np.int64(2), [2], (2,), [2, 3], (np.int64(2), 2)])
def test_sizes_as_torch_takes_them(size: Any) -> None:
    x = torch.randn(4, 2, 6, 6)
    for given in ({"kernel_size": size}, {"kernel_size": 2, "stride": size}, {"kernel_size": 2, "stride": ()}):
        assert torch.equal(kept(**given)(batch_last(x)), nn.MaxPool2d(**given)(x))


REFUSED = [
    {"kernel_size": 2, "padding": 2},
    {"kernel_size": 3, "stride": 0},
    {"kernel_size": 4, "dilation": 5},
    {"kernel_size": (2, 0)},
    {"kernel_size": (2, 9, 2)},
    {"kernel_size": True},
    {"kernel_size": 2.0},
    {"kernel_size": "2"},
    {"kernel_size": 2, "stride": (1, None)},
]


@pytest.mark.parametrize("pool", REFUSED, ids=str)
def test_what_cannot_be_is_refused_as_torch_does(pool: Any) -> None:
    x = torch.randn(4, 2, 6, 6)
    with pytest.raises((RuntimeError, TypeError)) as wanted:
        nn.MaxPool2d(**pool)(x)
    with pytest.raises(type(wanted.value)) as got:
        kept(**pool)(batch_last(x))
    assert str(got.value)[:18] == str(wanted.value)[:18]


def test_the_library_looks_at_its_arguments() -> None:
    """Whoever calls it past the modules reads no memory that is not there."""
    x, window = torch.randn(4, 4, 6), Window((2, 2), (2, 2), (0, 0), (1, 1), (2, 2))
    assert window_of(batch_last(torch.randn(3, 2, 4, 4)), 2, 2, 0, 1, False) == window
    assert max_pool(x, window).shape == (2, 2, 6)
    y, taps, numbers = torch.empty(2, 2, 6), torch.empty(2, 2, 6, dtype=torch.uint8), (2, 2, 2, 2, 0, 0, 1, 1)
    call = torch.ops.efcn_cpu.max_pool
    call(y, taps, x, 1, MOST_TAPS, *numbers[2:])
    for wrong, message in (
        ((y.transpose(0, 1), taps, x, *numbers), r"y must be \(height, width, columns\), contiguous"),
        ((y, taps, x[0], *numbers), r"x must be \(height, width, columns\), contiguous, got \(4, 6\)"),
        ((y, taps.int(), x, *numbers), "taps must be uint8, got int32"),
        ((y, taps[:1], x, *numbers), r"taps must have the shape of y, \(2, 2, 6\), got \(1, 2, 6\)"),
        ((y.double(), taps, x, *numbers), "x and y must have one floating-point type, got float32 and float64"),
        ((y, taps, x[..., :5].contiguous(), *numbers), "x and y must have the same columns"),
        ((y, taps, x, 2, MOST_TAPS // 2 + 1, *numbers[2:]), "a window has 16 taps at most, got 18"),
        ((y, taps, x, 2**32, 2**32, *numbers[2:]), r"kernel must be from 1 to 16, got \(4294967296, 4294967296\)"),
        ((y, taps, x, *numbers[:2], 0, 2, *numbers[4:]), r"stride must be from 1 to 1073741824, got \(0, 2\)"),
        ((y, taps, x, *numbers[:4], 0, -1, *numbers[6:]), r"padding must be from 0 to 1073741824, got \(0, -1\)"),
    ):
        with pytest.raises((RuntimeError, ValueError), match=message):
            call(*wrong)
    with pytest.raises((RuntimeError, ValueError), match="gx and gy must have the same columns"):
        torch.ops.efcn_cpu.max_pool_backward(torch.empty(4, 4, 5), y, taps, *numbers)
