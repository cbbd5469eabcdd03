"""Which CUDA kernel a problem gets, and what holds for whichever it is; by the kernels' own code on the CPU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efcn_kernels import BlockLayout, ConvGeometry
from tests.support.cuda.cases import IDS, KERNELS, SCHEDULES, Case
from tests.support.cuda.emulator import COMPILER, MATHS, Emulated, Schedule, kernels, name_of
from tests.support.judge import check_equal
from tests.support.memory_orders import ORDERS
from tests.support.oracle import random_layout
from tests.support.problems import CONV_PATTERNS, OPS, tensors

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the kernels with")


def chosen(op: str, block: tuple[int, int], n: int, order: str, math: str, sites: int = 3, path: str = "any") -> str:
    """The name of the kernel that a dense pattern of so many sites gets, "" for none."""
    layout = BlockLayout.full(sites, sites, block)
    x, values, bias, gy = tensors(layout, 1, MATHS[math])
    x, gy = (ORDERS[order](t.expand(n, -1, -1)) for t in (x, gy))
    arguments = {OPS[0]: (x, values, bias), OPS[1]: (gy, values), OPS[2]: (gy, x)}[op]
    call = Emulated(op, layout, arguments, {OPS[0]: gy, OPS[1]: x, OPS[2]: values}[op])
    number = call.chosen(math, path)
    assert number < 0 or call.fits(number)
    return "" if number < 0 else name_of(kernels(op)[number])


@pytest.mark.parametrize(
    ("op", "block", "n", "order", "math", "expected"),
    [
        # whole vectors on both sides; few programs want small tiles, many sites large ones
        (OPS[0], (64, 64), 256, "batch-last", "bf16", "bf16 units 64x32x64 depth 16 rows 16"),
        (OPS[0], (256, 256), 256, "batch-last", "bf16:64", "bf16 units 128x128x32 depth 16 rows 16"),
        # the paper's batches of 250 come four bytes at a time, three channels one by one
        (OPS[0], (64, 64), 250, "batch-last", "bf16", "bf16 units 64x32x64 depth 16 rows 4"),
        (OPS[0], (64, 3), 250, "batch-last", "bf16", "bf16 units 64x32x64 depth 2 rows 4"),
        (OPS[0], (64, 3), 250, "batch-last", "tf32", "tf32 units 64x32x32 depth 4 rows 4"),
        (OPS[0], (64, 64), 33, "batch-last", "f16", "f16 units 64x32x64 depth 2 rows 2"),
        (OPS[0], (64, 64), 33, "contiguous", "f16", "f16 units 64x32x64 depth 16 depth 16"),
        (OPS[1], (64, 64), 256, "batch-last", "f16", "f16 units 64x32x64 rows 16 rows 16"),
        (OPS[2], (64, 64), 256, "batch-last", "bf16", "bf16 units 64x32x64 depth 16 depth 16"),
        (OPS[2], (64, 64), 256, "contiguous", "bf16", "bf16 units 64x32x64 rows 16 rows 16"),
        (OPS[2], (64, 3), 250, "batch-last", "bf16", "bf16 units 64x32x64 depth 4 depth 4"),
        # strides that suit nobody
        (OPS[0], (8, 8), 8, "nchw", "bf16", "bf16 units 64x32x64 depth 2 rows 2"),
        (OPS[2], (8, 8), 8, "nchw", "tf32", "tf32 units 64x32x32 depth 4 depth 4"),
        # what matrix units do not multiply
        (OPS[0], (64, 64), 256, "batch-last", "f32", "f32 cores 64x64x16 depth 4 rows 4"),
        (OPS[0], (64, 64), 256, "contiguous", "f64", "f64 cores 64x32x16 depth 8 depth 8"),
    ],
)
def test_what_a_problem_gets(op: str, block: tuple[int, int], n: int, order: str, math: str, expected: str) -> None:
    math, _, sites = math.partition(":")
    assert chosen(op, block, n, order, math, int(sites or 3)) == expected


def test_a_path_can_be_forced() -> None:
    assert " cores " in chosen(OPS[0], (64, 64), 256, "batch-last", "bf16", path="cuda-cores")
    assert " units " in chosen(OPS[0], (64, 64), 256, "batch-last", "bf16", path="matrix-units")
    assert chosen(OPS[0], (64, 64), 256, "batch-last", "f64", path="matrix-units") == ""
    assert chosen(OPS[0], (64, 64), 256, "batch-last", "tf32", path="cuda-cores") == ""


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("order", list(ORDERS))
def test_every_memory_order_is_taken(op: str, order: str) -> None:
    for math in MATHS:
        for block, n in [((5, 3), 17), ((16, 8), 32), ((1, 1), 1)]:
            case = Case(random_layout(6, 5, block, 0.5), n, math, order)
            case.check(op, case.call(op))


@pytest.mark.parametrize("name", list(CONV_PATTERNS))
def test_patterns_of_convolutions(name: str) -> None:
    layout = BlockLayout.from_conv(CONV_PATTERNS[name], halo=1)
    for op in OPS:
        for math, n in [("f32", 41), ("bf16", 40)]:
            case = Case(layout, n, math, "batch-last")
            case.check(op, case.call(op))


@settings(max_examples=60)
@given(st.data())
def test_random_problems(data: st.DataObject) -> None:
    sizes = st.integers(1, 40)
    block, n = (data.draw(sizes), data.draw(sizes)), data.draw(st.integers(0, 70))
    op, math, order = (data.draw(st.sampled_from(list(choices))) for choices in (OPS, MATHS, ORDERS))
    layout = random_layout(data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)), block, data.draw(st.floats(0, 1)), data.draw(sizes))
    case = Case(layout, n, math, order, data.draw(st.booleans()))
    case.check(op, case.call(op), schedule=data.draw(st.sampled_from(SCHEDULES)))


@pytest.mark.parametrize("op", OPS)
def test_no_images_no_blocks_and_rows_without_blocks(op: str) -> None:
    empty = BlockLayout(3, 4, (8, 8), [0, 0, 0, 0], [])
    some = BlockLayout(3, 4, (8, 8), [0, 0, 2, 2], [1, 3])
    for math in MATHS:
        for layout, n in [(empty, 9), (some, 0), (some, 9)]:
            case = Case(layout, n, math, "batch-last")
            # without blocks there is no gradient of weights: the launcher is not asked
            if op != OPS[2] or layout.nnzb > 0:
                case.check(op, case.call(op))


@pytest.mark.parametrize("op", OPS[:2])
def test_windows_too_long_to_merge_follow_each_other(op: str) -> None:
    layout = BlockLayout.full(150, 151, (3, 2))
    for math in ("f32", "bf16"):
        case = Case(layout, 5, math, "batch-last")
        call = case.call(op)
        for members in (2, 3):
            case.check(op, call, members=members)


@pytest.mark.parametrize("op", OPS)
def test_the_result_does_not_depend_on_who_runs_first(op: str) -> None:
    layout = BlockLayout.from_conv(ConvGeometry.make(16, 24, (4, 4), 3, padding=1))
    for math in MATHS:
        case = Case(layout, 40, math, "batch-last")
        call = case.call(op)
        number = call.chosen(math)
        first, *others = [call.run(number, schedule).result.clone() for schedule in SCHEDULES]
        for schedule, other in zip(SCHEDULES[1:], others, strict=True):
            check_equal([other], [first], [op], f"against {SCHEDULES[0]}\n{case.where(number, op, schedule)}")


@pytest.mark.parametrize(("op", "kernel"), KERNELS, ids=IDS)
def test_no_bank_of_shared_memory_keeps_a_warp_waiting(op: str, kernel: int) -> None:
    math, seen = list(MATHS)[kernels(op)[kernel].math], 0
    for order in ("batch-last", "contiguous"):
        call = Case(BlockLayout.full(1, 1, (128, 128)), 128, math, order).call(op)
        if call.fits(kernel):
            seen += 1
            assert call.run(kernel, Schedule()).outcome.conflicts == 0, order
    assert seen
