"""layout.plan(): counts by hand, the model's own rules, and its constants against the measurements that they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from efcn_kernels import BlockLayout
from efcn_kernels.bench.cases import select
from efcn_kernels.cost import machine
from efcn_kernels.cost.machine import BFLOAT16, Machine, Tile
from efcn_kernels.cost.model import COPYING, IN_PLACE, PASSES, Shares, shares
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.backends import cpu

WIDE = Tile(6, 64)
# 1 FLOP/s and 1 byte/s: times are counts; nothing that is moved ever takes long, or all that is moved does
COMPUTING, MOVING = Machine(1.0, 1e30, tile=WIDE), Machine(1e30, 1.0, tile=WIDE)
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_counts_by_hand() -> None:
    layout = BlockLayout(3, 4, (6, 16), [0, 2, 2, 5], [0, 3, 0, 1, 3])
    plan = layout.plan(32, machine=COMPUTING)
    assert plan.flop == 2 * 32 * 5 * 96
    assert plan.bytes == 4 * (5 * 96 + 32 * (3 * 6 + 4 * 16))
    assert plan.intensity == plan.flop / plan.bytes
    # 6 rows and 32 lanes are whole tiles; 16 input channels are whole vectors but 16 of 18 rows
    assert plan.fill == pytest.approx({"forward": 1, "grad_input": 16 / 18, "grad_weight": 1})
    assert plan.seconds["forward"] == pytest.approx(plan.flop / COPYING.forward * (16 + COPYING.setup) / 16)
    assert plan.dense_seconds == pytest.approx(2 * 32 * 18 * 64 / COPYING.dense)
    assert set(layout.plan(32, machine=MOVING).seconds.values()) == {plan.bytes}


@pytest.mark.parametrize(("batch", "fill"), [(1, 1 / 16), (16, 1), (17, 17 / 32), (250, 250 / 256)])
def test_lanes_without_an_image(batch: int, fill: float) -> None:
    assert BlockLayout.full(2, 2, (6, 6)).plan(batch, machine=COMPUTING).fill["forward"] == pytest.approx(fill)


def test_narrow_blocks_take_the_better_grad_weight() -> None:
    narrow, wide = (BlockLayout.full(2, 2, (6, ci)).plan(64, machine=COMPUTING) for ci in (1, 16))
    assert narrow.fill["grad_weight"] == 1
    assert narrow.seconds["grad_weight"] * 16 == pytest.approx(wide.seconds["grad_weight"] * COPYING.grad_weight / COPYING.dot)


def test_entries_that_are_masked_are_computed_all_the_same() -> None:
    mask = np.zeros((12, 32), dtype=bool)
    mask[::2] = True
    masked, whole = BlockLayout.from_mask(mask, (6, 16)).plan(16, machine=COMPUTING), BlockLayout.full(2, 2, (6, 16)).plan(16, machine=COMPUTING)
    assert masked.flop * 2 == whole.flop
    assert masked.bytes == whole.bytes
    assert masked.fill["forward"] == pytest.approx(whole.fill["forward"] / 2)
    assert masked.seconds == pytest.approx(whole.seconds)


def test_half_precision_moves_half() -> None:
    layout = BlockLayout.full(2, 2, (6, 16))
    single, half, double = (layout.plan(16, dtype, machine=MOVING) for dtype in (torch.float32, torch.bfloat16, torch.float64))
    assert (2 * half.bytes, half.fill) == (single.bytes, single.fill)
    assert double.bytes == 2 * single.bytes
    assert double.fill == single.fill


def test_matrix_tiles_make_bfloat16_faster() -> None:
    layout, amx = BlockLayout.full(2, 2, (6, 16)), replace(COMPUTING, tile=WIDE._replace(bfloat16=BFLOAT16["amx"]))
    single, half, other = (layout.plan(16, dtype, machine=amx) for dtype in (torch.float32, torch.bfloat16, torch.float16))
    assert half.seconds["forward"] == pytest.approx(single.seconds["forward"] / BFLOAT16["amx"])
    assert other.seconds == single.seconds


def test_dense_is_better_where_nothing_is_left_out() -> None:
    full, sparse = BlockLayout.full(64, 64, (3, 3)), BlockLayout.from_block_mask(np.eye(64, dtype=bool), (3, 3))
    assert full.plan(64, machine=COMPUTING).dense_is_better
    assert str(full.plan(64, machine=COMPUTING)).endswith(": dense would be better")
    assert not sparse.plan(64, machine=COMPUTING).dense_is_better
    assert "dense would" not in str(sparse.plan(64, machine=COMPUTING))


def test_what_is_printed() -> None:
    layout = BlockLayout.full(100, 100, (96, 96))
    assert str(layout.plan(250, machine=Machine(400e9, 20e9, 2))).splitlines()[:3] == [
        repr(layout),
        "batch 250, float32, threads 2: 400 GFLOP/s, copies at 20.0 GB/s",
        "each pass    46.1 GFLOP, 388 MB, 119 FLOP/byte",
    ]


def test_nothing_stored() -> None:
    plan = BlockLayout(3, 2, (4, 5), [0, 0, 0, 0], []).plan(8, machine=MOVING)
    assert plan.flop == plan.intensity == 0
    assert plan.seconds["forward"] == plan.bytes == 4 * 8 * (12 + 10)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": 1, "dtype": torch.int32}, "dtype must be float32, .*, got torch.int32"),
        ({"batch": 1, "threads": 0, "machine": None}, "threads must be at least 1, got 0"),
    ],
)
def test_refusals(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BlockLayout.full(1, 1).plan(**{"machine": COMPUTING} | wrong)


@pytest.mark.parametrize("rates", [(0.0, 1.0), (1.0, float("nan"))])
def test_rates_are_positive(rates: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"must be a positive rate per second, got (0\.0|nan)"):
        Machine(*rates)


@pytest.mark.usefixtures("threads")
def test_this_machine_is_measured_once() -> None:
    torch.set_num_threads(1)
    two = Machine.here(threads=2)
    assert torch.get_num_threads() == 1
    assert Machine.here(threads=2) is two
    assert two.threads == 2
    assert two.tile == Machine(1.0, 1.0).tile == Tile.here()
    assert BlockLayout.full(2, 2).plan(4, threads=2).machine is two
    assert BlockLayout.full(2, 2).plan(4).machine.threads == 1


@pytest.mark.parametrize("backend", ["cuda", "triton", "reference"])
def test_another_backend_does_not_change_what_this_cpu_can_do(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "wish", backend)
    assert machine._measured.__wrapped__(False, 1).tile == Tile.here()


@pytest.mark.skipif(not cpu.isas(), reason="the compiled library is missing")
@pytest.mark.parametrize("isa", cpu.isas())
def test_the_tile_is_asked_of_the_library(isa: str) -> None:
    for tuning, reached in [("copied", COPYING), ("in_place", IN_PLACE)]:
        with cpu.forced_isa(isa), cpu.forced_tuning(tuning):
            assert Tile.here()[:2] == cpu.tile()
            assert Tile.here().bfloat16 == BFLOAT16.get(isa, 1.0)
            assert shares(Tile.here()) is reached, "by the tuning, not by the instruction set"


def test_torch_stands_in_for_kernels_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "missing", lambda: "they are hidden")
    measured = machine._measured.__wrapped__(False, 1)
    assert measured.tile == Tile(4, 16)
    assert measured.peak > 0


@pytest.mark.skipif(not RESULTS.is_dir(), reason="the measurements are not part of an installed package")
@pytest.mark.parametrize(("folder", "fitted", "name"), [("xeon", COPYING, "COPYING"), ("", IN_PLACE, "IN_PLACE")])
def test_constants_agree_with_the_measurements_they_were_fitted_to(folder: str, fitted: Shares, name: str) -> None:
    measured = json.loads((RESULTS / folder / "cpu-alexnet-skinny.json").read_text())
    tile = WIDE._replace(in_place=fitted is IN_PLACE)
    assert shares(tile) is fitted
    # nothing in these results is bound by memory
    then = replace(COMPUTING, peak=measured["peak_gflops"] * 1e9, tile=tile)
    ratios: dict[str, list[float]] = {each: [] for each in PASSES}
    for case in measured["cases"]:
        plan = BlockLayout.from_conv(select([case["name"]])[0].geometry).plan(case["batch"], machine=then)
        for each in PASSES:
            ratios[each].append(1e3 * plan.seconds[each] / min(case["passes"][each]["rounds_ms"]))
    for each, found in ratios.items():
        assert 0.9 < median(found) < 1.1, f"refit {name}.{each} in cost/model.py to {median(found) * getattr(fitted, each):.2f}"
        assert 0.5 < min(found) <= max(found) < 2, f"{each}: {found}"
