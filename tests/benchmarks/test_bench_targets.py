"""Targets, their verdicts, tables and figures, on runs that are made up."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import draw, main, markdown, summary
from benchmarks.roofline_figure import _apart, roofline
from benchmarks.targets import TARGETS, Row, evaluate
from efcn_kernels.bench import GROUPS, select
from efcn_kernels.bench.figures import steps
from efcn_kernels.bench.result import SCHEMA
from efcn_kernels.bench.tables import conditions

Run = dict[str, Any]


def made_up(share: float, ratio: float, isa: str | None = None) -> Run:
    """Every layer of the table; each pass at `share` of a peak of 100 GFLOP/s, and every alternative `ratio` times as long as ours."""
    cases = [entry(name, batch, share, ratio) for name in GROUPS["table"] for batch in (250, 1, 8, 32)]
    machine = {"cpu": "a CPU", "isa": isa or "avx512", "threads": 2}
    settings = {"isa": isa, "dtype": "float32"}
    what = {"date": "2026-01-01T00:00:00", "commit": None, "versions": {"torch": "2.13"}, "peak_doubt": None}
    return {"machine": machine, "settings": settings, "peak_gflops": 100.0, "torch_mm_gflops": 90.0, "copy_gbytes": 10.0, **what, "cases": cases}


def entry(name: str, batch: int, share: float, ratio: float) -> Run:
    """10 FLOP a byte: what is attainable is the peak, and small batches are asked for 60 % of it."""

    def timing(ms: float) -> Run:
        return {"median_ms": ms, "lower_quartile_ms": ms, "upper_quartile_ms": 1.1 * ms}

    one = {**timing(1.0), "gflops": 100 * share, "share_of_peak": share, "share_of_attainable": share}
    return {
        "name": name,
        "layer": str(select([name])[0]),
        "batch": batch,
        "flop_per_pass": 1000,
        "bytes_per_pass": 100,
        "steps": {"ours": timing(3.0), **{other: timing(3.0 * ratio) for other in ("ours, contiguous", "conv", "linear", "unfold")}},
        "step_shares_of_peak": {"ours": share, "ours, no grad-input": share},
        "passes": {"forward": one, "grad_input": one, "grad_weight": one},
    }


def found(rows: list[Row], what: str) -> list[Row]:
    rows = [row for row in rows if row.what == what]
    assert rows
    return rows


def test_targets_are_those_of_the_table() -> None:
    assert {name for target in TARGETS for name in target.layers} == set(GROUPS["table"])


@pytest.mark.parametrize(("share", "pass_hit", "odd_hit"), [(0.9, True, True), (0.799, False, True), (0.54, False, False)])
def test_shares_are_held_against_their_limits(share: float, pass_hit: bool, odd_hit: bool) -> None:
    rows = evaluate([made_up(share, 1.0)])
    assert {row.hit for row in found(rows, "each pass")} == {pass_hit}
    assert {row.layer: row.hit for row in found(rows, "the whole step")}["odd"] is odd_hit
    assert found(rows, "each pass")[0].measured == " / ".join([f"{100 * share:.1f}"] * 3) + " %"
    assert {row.hit for row in rows if row.what.endswith("AVX2")} == {None}


def test_one_slow_pass_is_a_miss() -> None:
    run = made_up(0.9, 1.0)
    for case in run["cases"]:
        case["passes"] = case["passes"] | {"grad_input": {**case["passes"]["forward"], "share_of_peak": 0.7, "gflops": 50.0}}
    rows = evaluate([run])
    assert {row.hit for row in found(rows, "each pass")} == {False}
    (row, *_) = (row for row in rows if row.batch == 8)
    assert row.measured == "26 of 39; worst 0.83x (alexnet.conv1, grad-input)"
    assert row.hit is False


@pytest.mark.parametrize(("ratio", "hits"), [(1.2, [False, False, False, True, True]), (14.0, [True, True, True, True, False])])
def test_ratios(ratio: float, hits: list[bool]) -> None:
    rows = evaluate([made_up(0.9, ratio)])
    names = ("time / the convolutions'", "dense Linear's time / ours", "unfold + baddbmm's time / ours")
    linear = found(rows, names[1])
    assert [r.layer for r in linear[1:]] == list(GROUPS["dense"])
    contiguous = found(rows, "contiguous / batch-last")
    assert [found(rows, names[0])[0].hit, linear[0].hit, found(rows, names[2])[0].hit, linear[1].hit, contiguous[0].hit] == hits


def test_avx2_is_asked_for_ten_points_less_and_only_where_it_was_forced() -> None:
    rows = evaluate([made_up(0.71, 1.0, "avx2")])
    assert {(row.target, row.hit) for row in found(rows, "each pass, AVX2")} == {("≥ 70 % of peak", True)}
    assert {row.measured for row in rows if not row.what.endswith("AVX2")} == {"not measured"}


def test_what_is_missing_or_doubted_is_neither_hit_nor_missed() -> None:
    run = made_up(0.9, 14.0)
    run["cases"] = [case for case in run["cases"] if case["name"] != "alexnet.conv3"]
    rows = evaluate([run])
    assert [row.hit for row in rows if row.layer.startswith(("alexnet.conv3", "AlexNet"))][:4] == [None] * 4
    run = made_up(0.9, 14.0) | {"peak_doubt": "the peak is odd"}
    for case in run["cases"]:
        case["step_shares_of_peak"] = dict.fromkeys(case["step_shares_of_peak"])
        case["passes"] = {name: timing | {"share_of_peak": None} for name, timing in case["passes"].items()}
    rows = evaluate([run])
    assert {(row.measured, row.hit) for row in rows if row.batch != 250} == {("no share: the peak is odd", None)}
    assert {row.hit for row in found(rows, "dense Linear's time / ours")} == {True}
    assert "no peak (the peak is odd)" in conditions(run)


def test_markdown_has_a_line_for_each_target_and_layer() -> None:
    runs = {"one": made_up(0.9, 1.0), "two": made_up(0.9, 1.0, "avx2")}
    rows = evaluate(list(runs.values()))
    lines = markdown(rows, runs).splitlines()
    assert lines[0] == f"{summary(rows)}."
    assert sum(line.startswith("|") for line in lines) == len(rows) + 2 + sum(len(run["cases"]) + 2 for run in runs.values())
    counts = {line.count("|") for line in lines if line.startswith("|")}
    assert counts == {7, 10}


def test_figures(tmp_path: Path) -> None:
    run = made_up(0.9, 2.0)
    assert draw(run, tmp_path, "cpu") == ["cpu-steps.png", "cpu-roofline.png"]
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("cpu-steps.png", "cpu-roofline.png"))
    bars = sum(len(container.patches) for ax in steps(run).axes for container in ax.containers if hasattr(container, "patches"))
    assert bars == 5 * len(GROUPS["table"])
    every, largest = roofline(run).axes
    assert {text.get_text() for text in every.texts} == {f"N = {n}" for n in (1, 8, 32, 250)}
    assert {text.get_text() for text in largest.texts} == set(GROUPS["table"])


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "some.json", tmp_path / "out"
    file.write_text(json.dumps({"schema": SCHEMA, **made_up(0.9, 1.0)}))
    main([str(file), "--markdown", str(folder / "table.md"), "--figures", str(folder)])
    assert "not measured" in capsys.readouterr().out
    assert "| odd (17->29 k3 p1 @13x11) | 8 |" in (folder / "table.md").read_text()
    assert {path.name for path in folder.iterdir()} == {"table.md", "some-steps.png", "some-roofline.png"}
    with pytest.raises(SystemExit, match=r"^benchmarks\.report: cannot read .*nowhere\.json.*efcn bench --json"):
        main([str(tmp_path / "nowhere.json")])


def test_names_are_moved_apart_but_not_out() -> None:
    assert _apart([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    for places in ([0.5] * 5, [0.0] * 5, [1.0] * 5):
        moved = _apart(places, 0.2)
        assert min(b - a for a, b in pairwise(moved)) >= 0.2 - 1e-9
        assert min(moved) >= 0.0
        assert max(moved) <= 1.0
