"""NaN and infinity go where the stored blocks take them, and nowhere else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from efcn_kernels.verify.tolerance import Product, largest
from tests.support.judge import check_equal, check_pass, setting
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, Passes, pairs, random_layout, run_passes
from tests.support.problems import DTYPES, OPS


def blockwise(x: Tensor, values: Tensor, bias: Tensor, gy: Tensor, layout: BlockLayout) -> Passes:
    """The three passes block by block, so that what is not stored multiplies nothing, not even a NaN."""
    y = bias.expand(x.size(0), -1, -1).clone()
    gx, gvalues = torch.zeros_like(x), torch.zeros_like(values)
    for block, (p, q) in enumerate(pairs(layout)):
        y[:, p] += x[:, q] @ values[block].T
        gx[:, q] += gy[:, p] @ values[block]
        gvalues[block] = gy[:, p].T @ x[:, q]
    return Passes(y, gx, gvalues)


def kind(x: Tensor) -> Tensor:
    """0 finite, 1 NaN, 2 infinity, 3 minus infinity."""
    return x.isnan() * 1 + x.isposinf() * 2 + x.isneginf() * 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["x", "values", "bias", "gy"])
def test_special_values_spread_as_in_torch(engine: Engine, where: str, special: float, dtype: torch.dtype) -> None:
    layout = random_layout(6, 5, (5, 3), 0.4)
    for n in (1, 19):
        given = {
            "x": torch.randn(n, 5, 3).to(dtype),
            "values": torch.randn(layout.nnzb, 5, 3).to(dtype),
            "bias": torch.randn(6, 5).to(dtype),
            "gy": torch.randn(n, 6, 5).to(dtype),
        }
        target = given[where]
        target.view(-1)[torch.randperm(target.numel())[: 1 + target.numel() // 40]] = special
        # a weight or an input of zero times infinity is NaN: no pass may skip zeros
        given["values"][::3] = torch.where(given["values"][::3].isfinite(), 0, given["values"][::3])
        wanted = blockwise(**{k: t.double() for k, t in given.items()}, layout=layout)
        sums = blockwise(**{k: t.double().abs() for k, t in given.items()}, layout=layout)
        plain = blockwise(**given, layout=layout)
        for order in ("contiguous", "batch-last"):
            x, gy = ORDERS[order](given["x"]), ORDERS[order](given["gy"])
            got = run_passes(engine, x, given["values"], given["bias"], gy, layout)
            place = setting(engine, layout, given | {"x": x, "gy": gy}, f"{special} in {where}; kinds: 0 finite, 1 NaN, 2 infinity, 3 minus infinity")
            check_equal(map(kind, got), map(kind, wanted), OPS, place)
            for op, a, b, absolute, rough in zip(OPS, got, wanted, sums, plain, strict=True):
                finite = b.isfinite()
                # elsewhere they are of one kind: nothing but the finite numbers is left to be compared
                right = Product(b.where(finite, 0), absolute.where(finite, 1), largest((rough.double() - b)[finite]))
                check_pass(op, a.where(finite, 0), right, layout, place)


def test_two_infinities_of_different_sign_meet(engine: Engine) -> None:
    layout = BlockLayout.full(2, 2, (1, 1))
    x = torch.tensor([[[math.inf], [-math.inf]]])
    y = run_passes(engine, x, torch.ones(4, 1, 1), None, torch.ones(1, 2, 1), layout).y
    assert y.isnan().all(), f"{engine}: {y.tolist()}"


def test_overflow_of_a_half_result_is_infinity(engine: Engine) -> None:
    layout = BlockLayout.full(1, 1, (1, 64))
    x, values, gy = torch.full((2, 1, 64), 100.0).half(), torch.full((1, 1, 64), 100.0).half(), torch.ones(2, 1, 1).half()
    assert run_passes(engine, x, values, None, gy, layout).y.isposinf().all()
    x[:, :, ::2] *= -1
    assert (run_passes(engine, x, values, None, gy, layout).y == 0).all(), "the sum is kept in float32, where it does not overflow"


def test_denormal_halves(engine: Engine) -> None:
    layout = BlockLayout.full(1, 1, (1, 1))
    tiny = 2.0**-24
    x = torch.tensor([tiny, 3 * tiny, -(2.0**-15)]).half().view(3, 1, 1)
    y = run_passes(engine, x, torch.ones(1, 1, 1).half(), None, torch.ones(3, 1, 1).half(), layout).y
    check_equal([y], [x], OPS, setting(engine, layout, {"x": x}))
