"""The dense float64 oracle of the three passes, written without the package's own index code."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from efcn_kernels.verify.tolerance import Product, largest


class Engine(NamedTuple):
    """A backend, and the instruction set (CUDA: the path) that it is forced to (None: it has none)."""

    backend: str
    isa: str | None

    def __str__(self) -> str:
        return self.backend if self.isa is None else f"{self.backend} {self.isa}"

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


def dense(values: Tensor, layout: BlockLayout, at: list[tuple[int, int]] | None = None) -> Tensor:
    """(P, Co, Q, Ci) with the blocks in their places; `at`: what `pairs` gives, where it is known."""
    co, ci = layout.block
    whole = values.new_zeros((layout.out_sites * layout.in_sites, co, ci))
    # one write for all blocks: a loop over them was a third of the time of the kernel tests
    whole[[p * layout.in_sites + q for p, q in (pairs(layout) if at is None else at)]] = values
    return whole.view(layout.out_sites, layout.in_sites, co, ci).transpose(1, 2)


def _dense_passes(x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout, at: list[tuple[int, int]]) -> Passes:
    # torch's own bfloat16 product reads what lies between the columns of a matrix with gaps
    x, gy = x.contiguous(), gy.contiguous()
    co, ci = layout.block
    n, outs, ins = x.size(0), layout.out_sites * co, layout.in_sites * ci
    whole = dense(values, layout, at).reshape(outs, ins)
    flat_x, flat_gy = x.reshape(n, ins), gy.reshape(n, outs)
    y = flat_x @ whole.T
    if bias is not None:
        y = y + bias.reshape(-1)
    gx = flat_gy @ whole
    every = (flat_gy.T @ flat_x).reshape(layout.out_sites, co, layout.in_sites, ci)
    gvalues = every[[p for p, _ in at], :, [q for _, q in at], :] if at else values.new_zeros((0, co, ci))
    return Passes(y.reshape(n, layout.out_sites, co), gx.reshape(n, layout.in_sites, ci), gvalues)


def dense_passes(x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> Passes:
    """The three passes through the dense matrix, in the dtype of the arguments."""
    return _dense_passes(x, values, bias, gy, layout, pairs(layout))


# problems whose results are kept: a test's own are used again in each memory order, and by the next engine
_KEPT = 96
_kept: OrderedDict[bytes, tuple[Product, Product, Product]] = OrderedDict()


def _key(tensors: list[Tensor | None], layout: BlockLayout) -> bytes:
    """What the results depend on: the numbers themselves, not where they lie."""
    digest = hashlib.blake2b(repr((layout.out_sites, layout.in_sites, layout.block)).encode())
    for t in (*layout.to_bsr_indices(), *tensors):
        digest.update(b"none" if t is None else repr((t.device, t.dtype, tuple(t.shape))).encode())
        if t is not None and t.numel():
            digest.update(t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def expected(x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> tuple[Product, Product, Product]:
    """What each of the three passes should be, and how exactly: see `efcn_kernels.verify.tolerance`."""
    given = [x, values, bias, gy]
    key = _key(given, layout)
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    at = pairs(layout)
    wide = [None if t is None else t.double() for t in given]
    absolute = [None if t is None else t.abs() for t in wide]
    exact, sums, plain = (_dense_passes(*operands, layout=layout, at=at) for operands in (wide, absolute, given))  # type: ignore[misc,arg-type]
    made = [Product(e, s, largest(p.double() - e)) for e, s, p in zip(exact, sums, plain, strict=True)]
    _kept[key] = (made[0], made[1], made[2])
    if len(_kept) > _KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def run_passes(engine: Engine, x: Tensor, values: Tensor, bias: Tensor | None, gy: Tensor, layout: BlockLayout) -> Passes:
    """The three ops on one backend."""
    index = (*layout.index(x.device)[:-1], engine.backend)
    ops = torch.ops.efcn
    return Passes(
        ops.bsr_linear(x, values, bias, *index),
        ops.bsr_linear_backward_input(gy, values, *index),
        ops.bsr_linear_backward_weight(gy, x, *index),
    )
