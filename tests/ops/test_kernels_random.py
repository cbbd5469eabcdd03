"""Random problems on every backend: patterns, blocks, batches, dtypes and memory orders drawn together."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.judge import check
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, random_layout
from tests.support.problems import DTYPES
from tests.support.strategies import examples

PROBLEMS = st.fixed_dictionaries(
    {
        "sites": st.tuples(st.integers(0, 12), st.integers(0, 12)),
        "block": st.tuples(st.integers(1, 70), st.integers(1, 40)),
        "density": st.sampled_from([0.1, 0.3, 0.7, 1.0]),
        "n": st.sampled_from([0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 129]),
        "dtype": st.sampled_from(DTYPES),
        "orders": st.tuples(*[st.sampled_from(sorted(ORDERS))] * 2),
        "bias": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
)


@examples(100)
@given(problem=PROBLEMS)
def test_random_problems(engine: Engine, problem: dict[str, Any]) -> None:
    torch.manual_seed(problem["seed"])
    (p, q), (co, ci), n, dtype = problem["sites"], problem["block"], problem["n"], problem["dtype"]
    layout = random_layout(p, q, (co, ci), problem["density"], problem["seed"])
    x, values = torch.randn(n, q, ci).to(dtype), torch.randn(layout.nnzb, co, ci).to(dtype)
    bias, gy = torch.randn(p, co).to(dtype) if problem["bias"] else None, torch.randn(n, p, co).to(dtype)
    x, gy = ORDERS[problem["orders"][0]](x), ORDERS[problem["orders"][1]](gy)
    check(engine, layout, x, values, bias, gy)
