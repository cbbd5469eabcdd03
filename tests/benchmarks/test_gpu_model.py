"""The roofline model of a GPU, the layers of the suite and the targets, on data sheets and made-up runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.suite import report
from benchmarks.suite.layers import BATCH, BATCHES, COMPILED, LAYERS, TARGETED, Item, items, resnet18, vgg11
from benchmarks.suite.model import DATA_SHEETS, Ceilings, layout_of, predict, predict_training
from benchmarks.suite.targets import compare, predicted
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.device import PRECISIONS

# 1 GFLOP/s and 1 GB/s: milliseconds are counts in millions
ROOFS = Ceilings(1e9, dict.fromkeys(PRECISIONS, 1e9))
WIDE, THIN = Case("wide", 64, 64, (8, 8), 3, padding=1), Case("thin", 1, 1, (8, 8), 3, padding=1, first=True)


def test_every_combination_is_there_once_and_the_most_telling_first() -> None:
    every = items()
    assert len(set(every)) == len(every) == len(LAYERS) * len(BATCHES) * len(PRECISIONS)
    assert {(item.batch, item.precision) for item in every[: len(LAYERS)]} == {(BATCH, "bfloat16")}
    assert {(item.batch, item.precision) for item in every[: 2 * len(LAYERS)]} == {(BATCH, "bfloat16"), (BATCH, "tf32")}
    assert {item.case.name for item in every[: len(COMPILED)]} == set(COMPILED)
    names, shapes = Counter(case.name for case in LAYERS), Counter(str(case) for case in LAYERS)
    assert max([*names.values(), *shapes.values()]) == 1


def test_networks_have_the_sizes_of_their_papers() -> None:
    # 7.5 G with those on padding, which are not stored
    taps = sum(case.in_channels * case.out_features * case.kernel**2 for case in vgg11(224))
    assert taps == pytest.approx(7.5e9, rel=0.01)
    assert sum(layout_of(case).nnz for case in vgg11(224)) == 7_191_765_760 < taps
    assert sum(c.in_channels * c.out_channels * c.kernel**2 for c in vgg11(224)) == 9_217_728
    # 11.2 M weights in 20 convolutions; each stage's repeated ones are there once
    repeats = {"conv2": 4, "conv3": 3, "conv4": 3, "conv5": 3}
    counted = sum(c.in_channels * c.out_channels * c.kernel**2 * repeats.get(c.name.partition(".")[2], 1) for c in resnet18(224))
    assert counted == 11_166_912
    assert [c.geometry.output_size for c in resnet18(224)][-1] == (7, 7)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_pass_takes_the_longer_of_both(precision: str) -> None:
    size = PRECISIONS[precision].dtype.itemsize
    reads = 22 * 22
    for case, batch in ((WIDE, 32), (THIN, 1)):
        weights = reads * case.in_channels * case.out_channels
        flop, moved = 2 * weights * batch, size * (weights + batch * 64 * (case.in_channels + case.out_channels))
        result = predict(Item(case, batch, precision), ROOFS)
        assert result.passes["forward"].median_ms == pytest.approx(1e-6 * max(flop, moved))
        assert (result.pass_flop, result.pass_bytes) == (flop, moved)
    assert flop < moved


def test_a_launch_is_added_to_each_operation() -> None:
    item = Item(WIDE, 32, "tf32")
    slow, fast = (predict(item, ROOFS._replace(launch=launch)) for launch in (1e-3, 0.0))
    assert slow.passes["forward"].median_ms - fast.passes["forward"].median_ms == pytest.approx(1)
    # three passes and the gradient of the bias; unfold has eight operations and two more copies
    counts = {name: slow.steps[name].median_ms - fast.steps[name].median_ms for name in slow.steps}
    assert counts == pytest.approx({"ours": 4, "conv": 4, "linear": 4, "unfold": 10})


def test_competitors_cost_what_they_touch() -> None:
    # with arithmetic for nothing only bytes count
    free = ROOFS._replace(rates=dict.fromkeys(PRECISIONS, 1e30))
    steps = predict(Item(WIDE, 1, "tf32"), free).steps
    x, weights, bias = 64 * 64, 22 * 22 * 64 * 64, 64 * 64
    assert steps["ours"].median_ms == pytest.approx(4e-6 * (3 * (weights + 2 * x) + bias))
    assert steps["conv"].median_ms == pytest.approx(4e-6 * (3 * (9 * 64 * 64 + 2 * x) + bias))
    assert steps["linear"].median_ms == pytest.approx(4e-6 * (3 * (x * x + 2 * x) + bias))
    assert steps["unfold"].median_ms > steps["ours"].median_ms
    large = predict(Item(vgg11(224)[1], 32, "tf32"), free)
    assert "linear" not in large.steps


def test_a_training_step_without_sharing_pays_for_its_weights() -> None:
    free = ROOFS._replace(rates=dict.fromkeys(PRECISIONS, 1e30))
    found = predict_training([WIDE], 1, "tf32", free)
    assert found["elcn"] - found["cnn"] == pytest.approx(4e-9 * 6 * (22 * 22 - 9) * 64 * 64)
    thin = predict_training([THIN], 1, "tf32", ROOFS._replace(launch=1.0))["elcn"]
    # two passes, the bias, ReLU and SGD
    assert thin == pytest.approx(5, rel=1e-3)


def test_targets_on_a_run_that_is_as_predicted() -> None:
    roofs = DATA_SHEETS["H200"]
    runs = [predicted(precision, roofs, 141e9) for precision in TARGETED]
    pairs = compare(runs, roofs, 141e9)
    assert all(pair.predicted == pair.measured for pair in pairs)
    backends = [pair for pair in pairs if pair.measured.what.startswith("Triton's pass")]
    assert {pair.measured.hit for pair in pairs if pair not in backends} <= {True, False}
    assert {pair.predicted.measured for pair in backends} == {"not measured"}
    assert [pair.measured.measured for pair in compare([], roofs, 141e9)] == ["not measured"] * len(pairs)
    summed = compare(runs, roofs, 141e9, together=True)
    assert len(summed) == 8 * len(TARGETED)
    for row, _ in summed[:5]:
        assert row.hit == all(pair.hit for pair, _ in pairs if pair.what == row.what)
    some = {**runs[0], "cases": [case for case in runs[0]["cases"] if case["name"] in ("alexnet.conv2", "skinny.conv2", "vgg11")]}
    assert compare([some], roofs, 141e9, together=True)[0].measured.measured == "3 of 6; worst 48.7 % (skinny.conv2, forward)"
    # a chip without the time of a launch is at its roofline, by the model's own word
    ideal = compare([predicted(p, roofs._replace(launch=0.0), 141e9) for p in TARGETED], roofs, 141e9)
    assert {pair.measured.measured for pair in ideal if "each pass" in pair.measured.what} == {"100.0 / 100.0 / 100.0 %"}


def test_targets_are_missed_by_what_is_slower() -> None:
    roofs = DATA_SHEETS["H200"]
    run = predicted("bfloat16", roofs, 1e9)
    for entry in run["cases"]:
        for timing in entry.get("passes", {}).values():
            timing["share_of_attainable"] = 0.59
        entry["steps"]["elcn" if "elcn" in entry["steps"] else "ours"]["median_ms"] *= 1000
    hits = {pair.measured.what: pair.measured.hit for pair in compare([run], roofs, 1e9) if pair.measured.what.endswith("bfloat16")}
    assert len(hits) == 8
    assert set(hits.values()) == {False, None}
    assert {what for what, hit in hits.items() if hit is None} == {what for what in hits if what.startswith("Triton's pass")}


@pytest.mark.parametrize("best", ["triton", "cuda"])
def test_cuda_is_held_against_triton(best: str) -> None:
    """Which of both is taken automatically makes no difference."""
    roofs = DATA_SHEETS["H200"]
    run = predicted("bfloat16", roofs, 1e9)
    for entry in [*run["cases"], *({**case, "batch": 32} for case in run["cases"] if "passes" in case)]:
        if "passes" in entry:
            other = {name: {"median_ms": timing["median_ms"] * (1.25 if best == "cuda" else 0.8)} for name, timing in entry["passes"].items()}
            entry |= {"backend": best, "others": {f"{({'cuda', 'triton'} - {best}).pop()} backend": other}}
            if entry["batch"] == 32:
                run["cases"].append(entry)
    rows = [pair.measured for pair in compare([run], roofs, 1e9, together=True) if pair.measured.what.endswith("bfloat16")][5:]
    assert [(row.batch, row.target, row.hit) for row in rows] == [(256, "≥ 1.5x", False), (32, "≥ 1.2x", True), (256, "≥ 0.9x", True)]
    assert [row.layer for row in rows] == ["4 layers", "40 layers", "36 layers"]
    assert rows[0].measured.startswith("0 of 12; worst 1.25x")


def test_the_document_holds_what_the_command_prints() -> None:
    text = (Path(__file__).parents[2] / "docs/gpu.md").read_text()
    assert report.expectation("H200") in text
