"""The CUDA kernels against the dense float64 oracle, by their own code on the CPU: every compiled kernel, without a GPU. See tests/support/cuda."""

from __future__ import annotations

import pytest

from efcn_kernels import BlockLayout, ConvGeometry
from tests.support.cuda.cases import IDS, KERNELS, PRODUCTS, SCHEDULES, Case
from tests.support.cuda.emulator import COMPILER, MATHS, Schedule, kernels
from tests.support.oracle import random_layout
from tests.support.problems import OPS

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the kernels with")
every_kernel = pytest.mark.parametrize(("op", "kernel"), KERNELS, ids=IDS)


def check(case: Case, op: str, kernel: int, schedule: Schedule, members: int = 0) -> bool:
    """False where this kernel cannot take the case."""
    call = case.call(op)
    if not call.fits(kernel):
        return False
    done = case.check(op, call, kernel, schedule, members)
    if op != OPS[2]:
        tiles = -(-case.x.size(0) // kernels(op)[kernel].n)
        assert (done.copied == tiles).all(), f"not every weight is copied once for each tile of images\n{case.where(kernel, op, schedule, members)}"
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


@pytest.mark.parametrize(("op", "kernel"), PRODUCTS, ids=IDS[: len(PRODUCTS)])
def test_neighbours_share_their_inputs(op: str, kernel: int) -> None:
    """Rows of one image line whose windows overlap, by any number of members, with a last program that has fewer."""
    math = list(MATHS)[kernels(op)[kernel].math]
    for block, n, order in [((8, 16), 40, "batch-last"), ((16, 8), 16, "contiguous"), ((3, 5), 9, "batch-last"), ((5, 3), 9, "contiguous")]:
        case = Case(BlockLayout.from_conv(ConvGeometry.make(block[1], block[0], (3, 5), 3, padding=1)), n, math, order)
        for members in (1, 2, 4, 7):
            if members * block[OPS.index(op)] <= kernels(op)[kernel].m:
                check(case, op, kernel, SCHEDULES[members % 4], members)
