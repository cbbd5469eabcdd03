"""The CUDA kernels against the dense float64 oracle, by their own code on the CPU: every compiled kernel, without a GPU. See tests/cuda."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout, ConvGeometry
from efcn_kernels.verify.tolerance import largest, ratio
from tests.ops.test_kernels import tensors
from tests.support.cuda.emulator import COMPILER, MATHS, OPS, Emulated, Schedule, kernels, name_of
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Passes, dense_passes, product_sums, random_layout

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the kernels with")
KERNELS = [] if COMPILER is None else [(op, number) for op in OPS for number in range(len(kernels(op)))]
SCHEDULES = [Schedule(backwards, late) for backwards in (False, True) for late in (False, True)]
IDS = {(op, number): f"{op}-{name_of(kernels(op)[number])}" for op, number in KERNELS}
# grad-weight has no members: its rows' sums have nothing in common
PRODUCTS = [key for key in KERNELS if key[0] != OPS[2]]
every_kernel = pytest.mark.parametrize(("op", "kernel"), KERNELS, ids=list(IDS.values()))


def rounded(x: Tensor) -> Tensor:
    """As the matrix units read TF32: 10 bits of mantissa. So no rounding is left to tolerate."""
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


class Case:
    """Tensors of one layer in one memory order, and what the three passes should be."""

    def __init__(self, layout: BlockLayout, n: int, math: str, order: str, bias: bool = True) -> None:
        x, values, offsets, gy = tensors(layout, n, MATHS[math], bias)
        if math == "tf32":
            x, values, gy = (rounded(t) for t in (x, values, gy))
        self.layout, self.values, self.bias = layout, values, offsets
        self.x, self.gy = ORDERS[order](x), ORDERS[order](gy)
        operands = (self.x, values, offsets, self.gy)
        wide = None if offsets is None else offsets.double()
        self.exact: Passes = dense_passes(self.x.double(), values.double(), wide, self.gy.double(), layout)
        self.plain, self.sums = dense_passes(*operands, layout), product_sums(*operands, layout)

    def call(self, op: str) -> Emulated:
        """The op on these tensors; its result lies in memory as its input does."""
        arguments = {OPS[0]: (self.x, self.values, self.bias), OPS[1]: (self.gy, self.values), OPS[2]: (self.gy, self.x)}[op]
        like = {OPS[0]: self.gy, OPS[1]: self.x, OPS[2]: self.values}[op]
        # results have a place for each of their numbers
        apart = 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True)) >= like.numel()
        out = torch.empty_strided(like.shape, like.stride() if apart else like.contiguous().stride(), dtype=like.dtype)
        return Emulated(op, self.layout, arguments, out)

    def error(self, op: str, got: Tensor) -> float:
        """As a share of what is allowed."""
        at = OPS.index(op)
        return ratio(got, self.exact[at], self.sums[at], largest(self.plain[at].double() - self.exact[at]))


def check(case: Case, op: str, kernel: int, schedule: Schedule, members: int = 0) -> bool:
    """False where this kernel cannot take the case."""
    call = case.call(op)
    if not call.fits(kernel):
        return False
    done = call.run(kernel, schedule, members)
    assert (done.written == 1).all(), "every number of the result is written once"
    error = case.error(op, done.result)
    assert error <= 1, f"the error is {error:.3g} times what is allowed"
    if op != OPS[2]:
        tiles = -(-case.x.size(0) // kernels(op)[kernel].n)
        assert (done.copied == tiles).all(), "every weight is copied once for each tile of images"
    return True


# odd and whole blocks, batches that end within a tile, orders along images and along channels
PROBLEMS = [
    ((17, 29), 33, "batch-last"),
    ((64, 3), 70, "batch-last"),
    ((3, 64), 40, "contiguous"),
    ((16, 16), 64, "batch-last"),
    ((72, 40), 136, "batch-last"),
    ((136, 8), 24, "contiguous"),
    ((8, 136), 8, "batch-last"),
    ((10, 16), 1, "contiguous"),
    ((5, 7), 3, "nchw"),
    ((24, 16), 20, "sliced batch-last"),
    ((24, 16), 19, "padded batch-last"),
    ((16, 24), 35, "site, batch, channel"),
    ((1, 1), 2, "batch-last"),
]


@every_kernel
def test_every_kernel(op: str, kernel: int) -> None:
    """Each on all problems that it can take, in turn under each schedule."""
    math, taken = list(MATHS)[kernels(op)[kernel].math], 0
    for block, n, order in PROBLEMS:
        case = Case(random_layout(4, 6, block, 0.5, seed=sum(block)), n, math, order, bias=n % 3 != 0)
        taken += check(case, op, kernel, SCHEDULES[taken % 4])
    assert taken >= 2, "too few of the problems suit this kernel"


@pytest.mark.parametrize(("op", "kernel"), PRODUCTS, ids=[IDS[k] for k in PRODUCTS])
def test_neighbours_share_their_inputs(op: str, kernel: int) -> None:
    """Rows of one image line whose windows overlap, by any number of members, with a last program that has fewer."""
    math = list(MATHS)[kernels(op)[kernel].math]
    for block, n, order in [((8, 16), 40, "batch-last"), ((16, 8), 16, "contiguous"), ((3, 5), 9, "batch-last"), ((5, 3), 9, "contiguous")]:
        case = Case(BlockLayout.from_conv(ConvGeometry.make(block[1], block[0], (3, 5), 3, padding=1)), n, math, order)
        for members in (1, 2, 4, 7):
            if members * block[OPS.index(op)] <= kernels(op)[kernel].m:
                check(case, op, kernel, SCHEDULES[members % 4], members)
