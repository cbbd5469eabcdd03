"""Where results lie: the order of the input, nothing unwritten, nothing beyond, nothing between."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout, batch_last
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.memory import empty_like_order
from tests.support.judge import check_equal, check_pass, setting
from tests.support.memory_orders import ORDERS, in_words
from tests.support.oracle import Engine, expected, random_layout, run_passes
from tests.support.problems import OPS

DENSE_ORDERS = ["contiguous", "batch-last", "channel, site, batch", "channel, batch, site", "site, batch, channel", "nchw"]


def outward(x: Tensor) -> list[int]:
    strides = x.stride()
    return sorted(range(x.dim()), key=lambda a: -strides[a])


@pytest.mark.parametrize("order", DENSE_ORDERS)
def test_the_output_lies_as_the_input(engine: Engine, order: str) -> None:
    layout = random_layout(5, 4, (6, 3), 0.5)
    x, gy = ORDERS[order](torch.randn(7, 4, 3)), ORDERS[order](torch.randn(7, 5, 6))
    passes = run_passes(engine, x, torch.randn(layout.nnzb, 6, 3), None, gy, layout)
    for op, result, like in ((OPS[0], passes.y, x), (OPS[1], passes.gx, gy)):
        assert outward(result) == outward(like), f"{op} by {engine}: {in_words(result)} from {in_words(like)}"
        assert result.untyped_storage().nbytes() == result.numel() * result.element_size(), f"{op} by {engine}: gaps in {in_words(result)}"
    assert passes.gvalues.is_contiguous(), f"{OPS[2]} by {engine}: {in_words(passes.gvalues)}"


@pytest.mark.parametrize("order", DENSE_ORDERS)
def test_nothing_is_written_around_the_output(engine: Engine, order: str) -> None:
    layout = random_layout(5, 4, (6, 3), 0.5)
    compute = dispatch.get(engine.backend)
    index = layout.index(torch.device("cpu"))
    for n in (1, 7, 19):
        x, gy, values = ORDERS[order](torch.randn(n, 4, 3)), ORDERS[order](torch.randn(n, 5, 6)), torch.randn(layout.nnzb, 6, 3)
        where = setting(engine, layout, {"x": x, "values": values, "gy": gy}, "results within memory that is not theirs")
        for op, like, arguments, right in zip(
            OPS,
            (ORDERS[order](torch.empty(n, 5, 6)), ORDERS[order](torch.empty(n, 4, 3)), torch.empty_like(values)),
            ((x, values, None), (gy, values), (gy, x)),
            expected(x, values, None, gy, layout),
            strict=True,
        ):
            memory = torch.full((like.numel() + 64,), 7.25)
            out = memory.as_strided(like.shape, like.stride(), 32)
            out.fill_(torch.nan)
            compute.compute(op)(out, *arguments, index)
            check_pass(op, out, right, layout, where)
            assert (memory[:32] == 7.25).all(), f"{op} wrote before its result\n{where}"
            assert (memory[-32:] == 7.25).all(), f"{op} wrote behind its result\n{where}"


def test_inputs_are_left_alone(engine: Engine) -> None:
    layout = random_layout(5, 4, (6, 3), 0.5)
    given = x, values, bias, gy = torch.randn(9, 4, 3), torch.randn(layout.nnzb, 6, 3), torch.randn(5, 6), torch.randn(9, 5, 6)
    before = [t.clone() for t in given]
    run_passes(engine, x, values, bias, gy, layout)
    names = ("x", "values", "bias", "gy")
    check_equal(given, before, names, setting(engine, layout, dict(zip(names, given)), "operands after the three passes"))


def test_batch_last() -> None:
    for shape in [(5,), (5, 3), (5, 3, 4), (5, 3, 4, 2), (5, 3, 4, 2, 6)]:
        x = torch.randn(shape)
        y = batch_last(x)
        assert torch.equal(x, y)
        assert y.stride(0) == 1
        assert batch_last(y) is y
        # sites outside, then channels, then the batch
        assert y.permute(*range(2, y.dim()), *([1] if y.dim() > 1 else []), 0).is_contiguous()
    with pytest.raises(ValueError, match="without axes"):
        batch_last(torch.tensor(1.0))


def test_batch_last_of_views_with_gaps() -> None:
    wide = torch.randn(4, 3, 10).permute(2, 0, 1)[2:7]
    assert wide.stride(0) == 1
    laid = batch_last(wide)
    assert torch.equal(laid, wide)
    assert laid.permute(2, 1, 0).is_contiguous()
    repeated = torch.randn(1, 3).expand(5, 3)
    assert torch.equal(batch_last(repeated), repeated)
    for shape in [(0, 3, 4), (1, 3, 4), (5, 1, 4), (5, 3, 1), (1, 1, 1), (5, 0, 2)]:
        x = torch.randn(shape)
        assert torch.equal(batch_last(x), x)


def test_batch_last_is_differentiable() -> None:
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: batch_last(t) * 2, x)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (0, 4, 5)])
def test_empty_like_order(shape: tuple[int, int, int]) -> None:
    for order in itertools.permutations(range(3)):
        inverse = sorted(range(3), key=order.__getitem__)
        x = torch.empty([shape[a] for a in order]).permute(inverse)
        assert tuple(x.shape) == shape
        made = empty_like_order(x, (shape[0], 7, 2))
        assert tuple(made.shape) == (shape[0], 7, 2)
        if min(shape) > 1:
            assert outward(made) == list(order)


@pytest.mark.parametrize("op", OPS)
def test_ops_refuse_another_number_of_sites(op: str) -> None:
    """Called without the layout's own check too."""
    layout = BlockLayout.full(3, 1000, (2, 2))
    index = layout.index(torch.device("cpu"))[:-1]
    short, values = torch.randn(4, 2, 2), torch.randn(3000, 2, 2)
    given = {"bsr_linear": (short, values, None), "bsr_linear_backward_input": (short, values), "bsr_linear_backward_weight": (short, short)}
    with pytest.raises(ValueError, match=r"\(4, 2, 2\)"):
        getattr(torch.ops.efcn, op)(*given[op], *index, "auto")
