"""Operands that begin anywhere: every offset from a vector's alignment, batches that are no whole number of lanes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout, ConvGeometry
from efcn_kernels.ops import dispatch
from tests.support.judge import check, check_passes
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, Passes, random_layout
from tests.support.problems import DTYPES, tensors

# one element more or fewer than 1, 2 and 4 vectors of 16 floats
BATCHES = (15, 17, 31, 33, 63, 65)


def shifted(x: Tensor, offset: int) -> Tensor:
    """x in the same order, `offset` elements into memory that ends with it, with NaN before it."""
    memory = torch.full((offset + x.numel(),), torch.nan, dtype=x.dtype)
    view = memory.as_strided(x.shape, x.stride(), offset)
    view.copy_(x)
    return view


@pytest.mark.parametrize("offset", range(1, 16))
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_offset(engine: Engine, dtype: torch.dtype, offset: int, poisoned: None) -> None:
    """The operands one after the other begin 1 to 15 elements later than the one before."""
    n = BATCHES[offset % len(BATCHES)]
    for layout in (random_layout(5, 6, (9, 7), 0.5), BlockLayout.from_conv(ConvGeometry.make(3, 10, (5, 4), 3, padding=1))):
        for order in ("contiguous", "batch-last", "nchw"):
            x, values, bias, gy = tensors(layout, n, dtype)
            assert bias is not None
            given = [shifted(t, 1 + (offset + k) % 15) for k, t in enumerate((ORDERS[order](x), values, bias, ORDERS[order](gy)))]
            check(engine, layout, given[0], given[1], given[2], given[3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["contiguous", "batch-last"])
def test_every_offset_of_the_results(engine: Engine, order: str, dtype: torch.dtype) -> None:
    layout = random_layout(5, 6, (9, 7), 0.5)
    backend, index = dispatch.get(engine.backend), layout.index(torch.device("cpu"))
    for offset in range(1, 16):
        n = BATCHES[offset % len(BATCHES)]
        x, values, bias, gy = tensors(layout, n, dtype)
        x, gy = ORDERS[order](x), ORDERS[order](gy)
        like = (torch.empty_like(gy), torch.empty_like(x), torch.empty_like(values))
        got = Passes(*(shifted(t.fill_(torch.nan), offset) for t in like))
        backend.compute("bsr_linear")(got.y, x, values, bias, index)
        backend.compute("bsr_linear_backward_input")(got.gx, gy, values, index)
        backend.compute("bsr_linear_backward_weight")(got.gvalues, gy, x, index)
        check_passes(engine, got, layout, x, values, bias, gy, f"results {offset} elements into their memory")


@pytest.mark.parametrize("n", [*range(1, 36), 47, 48, 49])
def test_every_batch(engine: Engine, n: int, poisoned: None) -> None:
    layout = random_layout(4, 3, (5, 6), 0.6)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x, values, bias, gy = tensors(layout, n, dtype)
        check(engine, layout, ORDERS["batch-last"](x), values, bias, ORDERS["batch-last"](gy))


def test_the_operands_really_begin_there() -> None:
    x = ORDERS["batch-last"](torch.randn(17, 3, 5))
    view = shifted(x, 3)
    assert torch.equal(view, x)
    assert view.stride() == x.stride()
    assert view.data_ptr() % 64 == 12
