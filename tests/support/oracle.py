"""The dense float64 oracle of the three passes, written without the package's own index code."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from efcn_kernels.verify.tolerance import largest, ratio


class Engine(NamedTuple):
    """A backend, and the instruction set that it is forced to (None: it has none)."""

    backend: str
    isa: str | None

    def needs_own_sums(self) -> None:
        """Skip where torch adds up: its libraries choose the order by the number of threads (MKL on AMD, one row of 800 products)."""
        if self.backend == "reference":
            pytest.skip("torch's own products are not promised to be the same on any number of threads")


class Passes(NamedTuple):
    """y (N, P, Co), gx (N, Q, Ci), gvalues (nnzb, Co, Ci)."""

    y: Tensor
    gx: Tensor
    gvalues: Tensor


def random_layout(p: int, q: int, block: tuple[int, int], density: float, seed: int = 0) -> BlockLayout:
    """A random pattern; with enough sites some rows and columns are empty."""
    chosen = np.random.default_rng(seed).random((p, q)) < density
    return BlockLayout.from_block_mask(chosen, block)


def pairs(layout: BlockLayout) -> list[tuple[int, int]]:
    """The (output site, input site) of each block."""
    crow, col = (t.tolist() for t in layout.to_bsr_indices())
    return [(p, col[k]) for p in range(layout.out_sites) for k in range(crow[p], crow[p + 1])]


def dense(values: Tensor, layout: BlockLayout) -> Tensor:
    """(P, Co, Q, Ci) with the blocks in their places."""
    co, ci = layout.block
    whole = values.new_zeros((layout.out_sites, co, layout.in_sites, ci))
    for block, (p, q) in enumerate(pairs(layout)):
        whole[p, :, q, :] = values[block]
    return whole


def dense_passes(x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> Passes:
    """The three passes through the dense matrix, in the dtype of the arguments."""
    # torch's own bfloat16 product reads what lies between the columns of a matrix with gaps
    x, gy = x.contiguous(), gy.contiguous()
    co, ci = layout.block
    n, outs, ins = x.size(0), layout.out_sites * co, layout.in_sites * ci
    whole = dense(values, layout).reshape(outs, ins)
    flat_x, flat_gy = x.reshape(n, ins), gy.reshape(n, outs)
    y = flat_x @ whole.T
    if bias is not None:
        y = y + bias.reshape(-1)
    gx = flat_gy @ whole
    every = (flat_gy.T @ flat_x).reshape(layout.out_sites, co, layout.in_sites, ci)
    at = pairs(layout)
    gvalues = every[[p for p, _ in at], :, [q for _, q in at], :] if at else values.new_zeros((0, co, ci))
    return Passes(y.reshape(n, layout.out_sites, co), gx.reshape(n, layout.in_sites, ci), gvalues)


def product_sums(x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> Passes:
    """The same with absolute values, in float64: how large the terms of each sum are together."""
    wide = [t.double().abs() for t in (x, values, gy)]
    return dense_passes(wide[0], wide[1], None if bias is None else bias.double().abs(), wide[2], layout)


def run_passes(engine: Engine, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> Passes:
    """The three ops on one backend."""
    index = (*layout.index(x.device)[:-1], engine.backend)
    ops = torch.ops.efcn
    return Passes(
        ops.bsr_linear(x, values, bias, *index),
        ops.bsr_linear_backward_input(gy, values, *index),
        ops.bsr_linear_backward_weight(gy, x, *index),
    )


def worst_ratio(got: Passes, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> float:
    """The largest error of the three passes as a share of what is allowed: see `efcn_kernels.verify.tolerance`."""
    wide = [t.double() for t in (x, values, gy)]
    exact = dense_passes(wide[0], wide[1], None if bias is None else bias.double(), wide[2], layout)
    plain = dense_passes(x, values, bias, gy, layout)
    sums = product_sums(x, values, bias, gy, layout)
    assert all(a.dtype == x.dtype for a in got)
    errors = [largest(p.double() - e) for p, e in zip(plain, exact)]
    return max(ratio(g, e, s, error) for g, e, s, error in zip(got, exact, sums, errors))
