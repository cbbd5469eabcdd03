"""The index work: compiled and in NumPy they give the same, and both are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efcn_kernels.pattern import csr
from tests.support.strategies import examples

COMPILED = csr.compiled
PLANNERS = ["numpy", *(["compiled"] if COMPILED is not None else [])]


@contextmanager
def using(name: str) -> Iterator[None]:
    """The named one for a while."""
    before = csr.compiled
    csr.compiled = COMPILED if name == "compiled" else None
    try:
        yield
    finally:
        csr.compiled = before


@st.composite
def pair_lists(draw: st.DrawFn) -> tuple[int, int, Any, Any]:
    """(P, Q, row, col) with repeats, in any order; sometimes empty, sometimes with sites that no pair names."""
    p, q = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    count = draw(st.integers(0, 40)) if p and q else 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return p, q, rng.integers(0, max(p, 1), count, dtype=np.int32), rng.integers(0, max(q, 1), count, dtype=np.int32)


@pytest.mark.parametrize("name", PLANNERS)
@examples(300)
@given(given_pairs=pair_lists())
def test_compress_and_transpose(name: str, given_pairs: tuple[int, int, Any, Any]) -> None:
    p_count, q_count, row, col = given_pairs
    with using(name):
        crow, cols, block = csr.compress(p_count, q_count, row, col)
        tcrow, tcol, tblock = csr.transpose(q_count, crow, cols)
        csr.check(q_count, crow, cols)
    assert all(a.dtype == np.int32 for a in (crow, cols, block, tcrow, tcol, tblock))
    wanted = sorted(set(zip(row.tolist(), col.tolist())))
    stored = [(p, int(cols[k])) for p in range(p_count) for k in range(crow[p], crow[p + 1])]
    assert stored == wanted
    assert [stored[b] for b in block] == list(zip(row.tolist(), col.tolist()))
    twin = [(q, int(tcol[k]), int(tblock[k])) for q in range(q_count) for k in range(tcrow[q], tcrow[q + 1])]
    assert twin == sorted((q, p, b) for b, (p, q) in enumerate(wanted))


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: csr.compress(3, 4, np.array([0, 3], np.int32), np.array([0, 0], np.int32)), "row.* 3"),
        (lambda: csr.compress(3, 4, np.array([0, -1], np.int32), np.array([0, 0], np.int32)), "row.* -1"),
        (lambda: csr.compress(3, 4, np.array([0, 1], np.int32), np.array([4, 0], np.int32)), "col.* 4"),
        (lambda: csr.check(4, np.array([0, 2, 1], np.int32), np.array([0], np.int32)), "crow"),
        (lambda: csr.check(4, np.array([0, 2], np.int32), np.array([1, 1], np.int32)), "ascend"),
        (lambda: csr.check(4, np.array([0, 2], np.int32), np.array([2, 1], np.int32)), "ascend"),
        (lambda: csr.check(4, np.array([0, 1], np.int32), np.array([4], np.int32)), "col.* 4"),
        (lambda: csr.check(4, np.array([0, 1], np.int32), np.array([-2], np.int32)), "col.* -2"),
        (lambda: csr.check(4, np.array([], np.int32), np.array([], np.int32)), "crow"),
        (lambda: csr.transpose(4, np.array([0, 1], np.int32), np.array([9], np.int32)), "col.* 9"),
        (lambda: csr.transpose(4, np.array([0, 1000], np.int32), np.array([1], np.int32)), "crow"),
        (lambda: csr.transpose(4, np.array([0, 5, 1], np.int32), np.array([1], np.int32)), "crow"),
    ],
)
def test_refusals(name: str, call: Callable[[], Any], says: str) -> None:
    with using(name), pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("name", PLANNERS)
def test_a_descent_across_rows_is_legal(name: str) -> None:
    with using(name):
        csr.check(4, np.array([0, 0, 2, 2, 4, 4], np.int32), np.array([1, 3, 0, 2], np.int32))


@pytest.mark.parametrize("name", PLANNERS)
def test_strided_and_wide_index_arrays(name: str) -> None:
    """Callers hand over slices and int64; both make them contiguous int32 first."""
    row, col = np.arange(8, dtype=np.int64)[::2] // 2, np.arange(8, dtype=np.int64)[::-2] % 4
    with using(name):
        crow, cols, _ = csr.compress(4, 4, row, col)  # type: ignore[arg-type]
    assert crow.tolist() == [0, 1, 2, 3, 4]
    assert cols.tolist() == col.tolist()
