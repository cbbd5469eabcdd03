"""What a failing comparison says: the pass, the place, and everything that the result depends on. And that it does fail."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from efcn_kernels.verify.tolerance import PLAIN_FACTOR, Product, floor
from tests.support.judge import check, check_equal, check_pass, check_passes, fault, setting
from tests.support.memory_orders import ORDERS, in_words
from tests.support.oracle import Engine, Passes, dense_passes, expected, pairs, random_layout, run_passes
from tests.support.problems import DTYPES, OPS, tensors

REFERENCE = Engine("reference", None)
LAYOUT = random_layout(5, 7, (8, 3), 0.5)
Given = tuple[Tensor, Tensor, Tensor | None, Tensor]


def problem(dtype: torch.dtype = torch.float32, n: int = 16) -> Given:
    x, values, bias, gy = tensors(LAYOUT, n, dtype)
    return ORDERS["batch-last"](x), values, bias, ORDERS["sliced"](gy)


def told(got: Passes, given: Given, engine: Engine = REFERENCE, note: str = "") -> str:
    """What a comparison that fails says."""
    with pytest.raises(AssertionError) as error:
        check_passes(engine, got, LAYOUT, *given, note)
    return str(error.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("op", "place", "named"),
    [
        (OPS[0], (11, 4, 6), "(n 11, output site 4, co 6)"),
        (OPS[1], (0, 6, 2), "(n 0, input site 6, ci 2)"),
        (OPS[2], (3, 7, 1), f"(block 3, co 7, ci 1, output site {pairs(LAYOUT)[3][0]}, input site {pairs(LAYOUT)[3][1]})"),
    ],
)
def test_a_planted_number_is_named_with_its_pass_and_place(op: str, place: tuple[int, int, int], named: str, dtype: torch.dtype) -> None:
    given = problem(dtype)
    good = run_passes(REFERENCE, *given, LAYOUT)
    got = Passes(*(t.clone() for t in good))
    planted = got[OPS.index(op)]
    exact = expected(*given, LAYOUT)[OPS.index(op)].exact[place].item()
    planted[place] += 40
    first, *others = told(got, given).splitlines()
    assert re.match(rf"{op}: 1 of {planted.numel():,} numbers are wrong; the error is [\d.e+]+ times what is allowed, the worst at ", first)
    assert first.endswith(f"{named}: got {planted[place].item()!r}, exact {exact!r}")
    assert others[:2] == [f"{other}: right" for other in OPS if other != op]


def test_everything_that_a_result_depends_on_is_said() -> None:
    given = problem()
    good = run_passes(REFERENCE, *given, LAYOUT)
    lines = told(good._replace(y=good.y * 1.01), given, Engine("cpu", "avx2"), "results 3 elements into their memory").splitlines()
    assert lines[3:] == [
        f"batch 16, float32, backend cpu avx2, threads {torch.get_num_threads()}, with bias, results 3 elements into their memory",
        repr(LAYOUT),
        "x (16, 7, 3) batch-last, strides (1, 48, 16)",
        f"values ({LAYOUT.nnzb}, 8, 3) contiguous, strides (24, 3, 1)",
        "gy (16, 5, 8) contiguous in order, with gaps, 205 into its storage, strides (374, 34, 2)",
    ]


@pytest.mark.parametrize("op", OPS)
def test_results_that_are_no_numbers_of_that_shape_and_type(op: str) -> None:
    given = problem()
    good = run_passes(REFERENCE, *given, LAYOUT)
    at = OPS.index(op)

    def said(change: Any) -> str:
        return told(Passes(*(change(t.clone()) if number == at else t for number, t in enumerate(good))), given).splitlines()[0]

    shape = tuple(good[at].shape)
    missing = said(lambda t: t.flatten().index_fill(0, torch.tensor([5, 8]), torch.nan).view(shape))
    assert f"{op}: 2 of {good[at].numel():,} numbers are wrong, 2 are NaN; the error is inf times" in missing
    assert "got nan, exact" in missing
    assert said(lambda t: t[:-1]) == f"{op}: its shape is {(shape[0] - 1, *shape[1:])}, not {shape}"
    assert said(lambda t: t.double()) == f"{op}: its dtype is torch.float64, not torch.float32"
    assert "got inf, exact" in said(lambda t: t.index_fill(0, torch.tensor([1]), torch.inf))


def test_wrong_results_of_every_kind_are_seen() -> None:
    """An error of one part in a thousand, a dropped block, a swapped pair of outputs, memory that nobody wrote."""
    given = x, values, bias, gy = problem()
    good = run_passes(REFERENCE, *given, LAYOUT)
    check_passes(REFERENCE, good, LAYOUT, *given)
    check(REFERENCE, LAYOUT, *given)
    dropped = values.clone()
    dropped[3] = 0
    for wrong, op in [
        (good._replace(y=good.y * 1.001), OPS[0]),
        (good._replace(y=good.y.roll(1, 0)), OPS[0]),
        (good._replace(gx=dense_passes(x, dropped, bias, gy, LAYOUT).gx), OPS[1]),
        (good._replace(gvalues=good.gvalues.index_fill(0, torch.tensor([2]), 0)), OPS[2]),
        (good._replace(y=good.y.index_fill(0, torch.tensor([15]), torch.nan)), OPS[0]),
    ]:
        assert told(wrong, given).startswith(f"{op}: ")


def test_two_wrong_passes_are_both_named_before_the_right_one() -> None:
    given = problem()
    good = run_passes(REFERENCE, *given, LAYOUT)
    lines = told(Passes(good.y + 1, good.gx, good.gvalues + 1), given).splitlines()
    assert [line.partition(" ")[0] for line in lines[:3]] == [f"{OPS[0]}:", f"{OPS[2]}:", f"{OPS[1]}:"]


def test_the_place_is_found_by_the_rule_that_judges() -> None:
    """The largest share over all numbers is the ratio of `verify.tolerance`."""
    given = problem(torch.bfloat16)
    got = run_passes(REFERENCE, *given, LAYOUT).y * 1.1
    wanted = expected(*given, LAYOUT)[0]
    shares = (got.double() - wanted.exact).abs() / (PLAIN_FACTOR * wanted.plain_error + floor(wanted.exact, wanted.absolute, got.dtype))
    assert float(shares.max()) == wanted.ratio(got)
    at = tuple(int(i) for i in (shares == shares.max()).nonzero()[0])
    said = fault(OPS[0], got, wanted, got.dtype, LAYOUT)
    assert said is not None
    assert f"{int((shares > 1).sum()):,} of {shares.numel():,} numbers are wrong" in said
    assert f"(n {at[0]}, output site {at[1]}, co {at[2]})" in said


def test_kept_results_belong_to_their_numbers_alone() -> None:
    """Another memory order finds them again; another number, pattern, dtype or bias does not."""
    x, values, bias, gy = problem()
    first = expected(x, values, bias, gy, LAYOUT)
    assert expected(x.contiguous(), values, bias, gy.contiguous(), LAYOUT) is first
    changed = x.clone()
    changed[3, 2, 1] += 1
    other = random_layout(5, 7, (8, 3), 0.5, seed=1)
    for operands, layout in [
        ((changed, values, bias, gy), LAYOUT),
        ((x, values, None, gy), LAYOUT),
        ((x, torch.randn(other.nnzb, 8, 3), bias, gy), other),
        ((x.double(), values.double(), None, gy.double()), LAYOUT),
    ]:
        found = expected(*operands, layout)
        assert found is not first
        wide = [None if t is None else t.double() for t in operands]
        exact = dense_passes(*wide, layout=layout)  # type: ignore[misc,arg-type]
        assert all(torch.equal(a.exact, b) for a, b in zip(found, exact, strict=True))


def test_one_pass_by_itself() -> None:
    given = problem()
    right: Product = expected(*given, LAYOUT)[1]
    check_pass(OPS[1], right.exact.float(), right, LAYOUT, "here")
    wrong = right.exact.float()
    wrong[1, 1, 1] += 1
    with pytest.raises(AssertionError, match=rf"{OPS[1]}: 1 of [\s\S]*\nkernel seven"):
        check_pass(OPS[1], wrong, right, LAYOUT, "kernel seven")


def test_other_bits_are_counted_and_placed() -> None:
    a = torch.arange(24.0).view(2, 3, 4)
    b = a.clone()
    check_equal([a, None], [b, None], OPS, "here")
    b[1, 0, 2], b[1, 2, 3] = 7, torch.nan
    with pytest.raises(AssertionError, match=re.escape("2 of 24 numbers differ, the first at (1, 0, 2): got 14.0, not 7.0")):
        check_equal([a, a], [a, b], OPS, "here")
    for other, says in [(None, "got a tensor, not nothing"), (a[0], "got (2, 3, 4) torch.float32, not (3, 4) torch.float32")]:
        with pytest.raises(AssertionError, match=rf"{OPS[0]}: {re.escape(says)}[\s\S]*\nhere"):
            check_equal([a], [other], OPS, "here")
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        check_equal([a, a], [a], OPS, "here")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("contiguous", "(5, 4, 3) contiguous, strides (12, 3, 1)"),
        ("batch-last", "(5, 4, 3) batch-last, strides (1, 15, 5)"),
        ("nchw", "(5, 4, 3) nchw, strides (12, 1, 4)"),
        ("site, batch, channel", "(5, 4, 3) axes (1, 0, 2) from the outermost, strides (3, 15, 1)"),
        ("sliced batch-last", "(5, 4, 3) batch-last, with gaps, 2 into its storage, strides (1, 24, 8)"),
        ("sliding windows", "(5, 4, 3) axes (1, 0, 2) from the outermost, overlapping, strides (1, 3, 1)"),
        ("one image repeated", "(5, 4, 3) batch-last, axis 0 repeated, strides (0, 3, 1)"),
    ],
)
def test_memory_orders_in_words(order: str, words: str) -> None:
    assert in_words(ORDERS[order](torch.zeros(5, 4, 3))) == words


def test_a_setting_without_all_operands() -> None:
    x, values, _, _ = problem()
    assert setting("cuda, emulated", LAYOUT, {"x": x, "values": values}).startswith("batch 16, float32, backend cuda, emulated, threads ")
