"""Cases, competitors and the form of the results; no test here depends on how long anything takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from efcn_kernels.bench import CASES, GROUPS, Case, Settings, select
from efcn_kernels.bench import run as run_function
from efcn_kernels.bench.competitors import COMPETITORS
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.peak import Peak
from efcn_kernels.bench.report import load_warning, number, sum_lines
from efcn_kernels.bench.result import CaseResult, Result, Timing, prepare
from efcn_kernels.bench.run import WrongAnswer, check, contender
from efcn_kernels.bench.step import Ours
from efcn_kernels.bench.timing import FEWEST_ROUNDS, interleave, quartiles

SMALL = (
    Case("plain", 3, 5, (6, 5), 3, padding=1),
    Case("strided", 4, 6, (7, 6), 4, stride=2, padding=2),
    Case("grouped and dilated", 6, 9, (8, 7), 3, padding=2, dilation=2, groups=3),
)


def test_names_are_unique_and_groups_name_cases() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert all(set(members) <= set(names) for members in GROUPS.values())
    assert not set(names) & set(GROUPS)


def test_select_keeps_order_and_drops_repeats() -> None:
    assert [c.name for c in select(["wide14", "alexnet.conv2", "alexnet"])] == [*GROUPS["alexnet"], "wide14"]
    with pytest.raises(ValueError, match=r"'nope'.*groups: alexnet.*layers: alexnet\.conv1"):
        select(["nope"])


@pytest.mark.parametrize("name", COMPETITORS)
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_competitors_compute_the_same(case: Case, name: str) -> None:
    ours = Ours.make(case, 4, torch.float64)
    check(name, COMPETITORS[name](ours), ours)


@pytest.mark.parametrize("answer", ["y", "gx", "gvalues", "gbias"])
@pytest.mark.parametrize("name", COMPETITORS)
def test_a_wrong_answer_is_found(name: str, answer: str) -> None:
    ours = Ours.make(SMALL[0], 4, torch.float32)
    wrong = getattr(ours.answers, answer).clone()
    wrong[tuple(size // 2 for size in wrong.shape)] += 0.01
    broken = ours._replace(answers=ours.answers._replace(**{answer: wrong}))
    with pytest.raises(WrongAnswer, match=r"plain: .* times as far apart"):
        check(name, COMPETITORS[name](ours), broken)


def test_too_large_competitors_are_skipped() -> None:
    ours = Ours.make(Case("large", 1, 1, (230, 230), 1), 1, torch.float32)
    reason = contender("linear", ours, 1.0)
    assert isinstance(reason, str)
    assert reason.startswith("needs 22.4 GB, more than the limit of")


def test_half_precision_leaves_out_what_torch_cannot_do() -> None:
    ours = Ours.make(SMALL[0], 4, torch.bfloat16)
    assert contender("csr", ours, 1.0) == "torch does not compute it in bfloat16"


def test_flop_counts_live_reads() -> None:
    case = SMALL[2]
    reads = case.geometry.taps().out.size * case.groups
    assert Ours.make(case, 4, torch.float32).pass_flop == 2 * 4 * reads * 2 * 3


def test_slow_steps_drop_out_but_not_before_enough_rounds() -> None:
    turns: list[str] = []
    times = interleave({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 5, 0.0)
    assert [len(t) for t in times.values()] == [FEWEST_ROUNDS] * 2
    assert set(turns) == {"a", "b"}


def test_quartiles() -> None:
    assert quartiles([4.0]) == (4.0, 4.0, 4.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_a_peak_that_something_exceeds_is_doubted() -> None:
    assert Peak(200e9, 150e9).doubt(180e9) is None
    assert "torch.mm reached 190" in str(Peak(100e9, 190e9).doubt())
    assert "one of the passes reached 124" in str(Peak(100e9, 50e9).doubt(124e9))
    assert Peak().doubt() == "the compiled library is missing"


def test_doubted_shares_are_withheld_not_cut_off() -> None:
    result = fabricated(Peak(100e9, 190e9))
    written = result.as_dict()
    assert "cannot be right" in written["peak_doubt"]
    assert all(p["share_of_peak"] is None for case in written["cases"] for p in case["passes"].values())
    assert fabricated(Peak(100e9, 50e9)).as_dict()["cases"][0]["passes"]["forward"]["share_of_peak"] == pytest.approx(0.5)


def test_sums_leave_out_what_was_not_timed_everywhere() -> None:
    result = fabricated(Peak())
    del result.cases[1].steps["linear"]
    assert result.sums() == {"these layers": {"ours": 4.0, "conv": 6.0}}
    assert sum_lines(result)[1] == "these layers together: ours 4.00 ms, conv 6.00 ms (1.50x)"


def test_a_busy_machine_is_announced() -> None:
    result = fabricated(Peak())
    machine: dict[str, Any] = result.provenance["machine"]
    machine |= {"load_at_start": 4.0, "cores": 2}
    assert "load 4.0 on 2 cores" in str(load_warning(result))
    machine["load_at_start"] = 0.1
    assert load_warning(result) is None


@pytest.mark.parametrize(("ms", "text"), [(1234.5, "1234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")])
def test_three_digits(ms: float, text: str) -> None:
    assert number(ms) == text


def test_a_run_and_its_json(tmp_path: Path) -> None:
    settings = Settings(batch=4, rounds=3, limit_s=1.0, contiguous=True)
    result = run_function([replace(SMALL[0], name="alexnet.conv1")], settings)
    path = tmp_path / "made" / "bench.json"
    prepare(path)
    result.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["bench.json"]
    written = json.loads(path.read_text())
    assert {"schema", "date", "machine", "commit", "versions", "settings", "peak_gflops", "peak_doubt", "cases", "sums_ms"} <= set(written)
    assert {"cpu", "cores", "threads", "isa", "load_at_start"} <= set(written["machine"])
    (case,) = written["cases"]
    assert set(case["steps"]) == {"ours", "ours, contiguous", *COMPETITORS}
    assert set(case["passes"]) == {"forward", "grad_input", "grad_weight"}
    for timing in (*case["steps"].values(), *case["passes"].values()):
        assert len(timing["rounds_ms"]) == 3
        assert timing["lower_quartile_ms"] <= timing["median_ms"] <= timing["upper_quartile_ms"]
    assert case["steps"]["conv"]["variant"] in ("NCHW", "channels_last")


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"against": ("tf",)}, {"batch": 0}, {"rounds": 0}, {"limit_s": 0.0}])
def test_settings_refuse_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Settings(**wrong)


def fabricated(peak: Peak) -> Result:
    """Two layers of 2 ms; forward at 50 GFLOP/s."""
    result = Result({}, provenance(), peak)
    for case in SMALL[:2]:
        steps = {"ours": Timing([2.0]), "conv": Timing([3.0], "NCHW"), "linear": Timing([9.0])}
        result.cases.append(CaseResult(case, 10, 50_000_000, steps, {"forward": Timing([1.0])}))
    return result
