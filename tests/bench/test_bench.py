"""Cases, competitors and the form of the results; no test here depends on how long anything takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from efcn_kernels.bench import CASES, GROUPS, Case, Settings, select
from efcn_kernels.bench import run as run_function
from efcn_kernels.bench.competitors import COMPETITORS, USUAL, DenseLinear
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.peak import Peak, copy_rate
from efcn_kernels.bench.report import load_warning, number, skipped_lines, sum_lines
from efcn_kernels.bench.result import NO_GRAD_INPUT, CaseResult, Result, Timing, load, prepare
from efcn_kernels.bench.run import WrongAnswer, check, contender
from efcn_kernels.bench.step import Ours
from efcn_kernels.bench.timing import FEWEST_ROUNDS, interleave, quartiles
from efcn_kernels.ops.backends import cpu

SMALL = (
    Case("plain", 3, 5, (6, 5), 3, padding=1),
    Case("strided", 4, 6, (7, 6), 4, stride=2, padding=2),
    Case("grouped and dilated", 6, 9, (8, 7), 3, padding=2, dilation=2, groups=3),
)
FULL = replace(SMALL[1], name="full", support="full")


def test_names_are_unique_and_groups_name_cases() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert all(set(members) <= set(names) for members in GROUPS.values())
    assert not set(names) & set(GROUPS)


def test_select_keeps_order_and_drops_repeats() -> None:
    assert [c.name for c in select(["wide14", "alexnet.conv2", "alexnet"])] == [*GROUPS["alexnet"], "wide14"]
    with pytest.raises(ValueError, match=r"'nope'.*groups: alexnet.*layers: alexnet\.conv1"):
        select(["nope"])


@pytest.mark.parametrize("name", USUAL)
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_competitors_compute_the_same(case: Case, name: str) -> None:
    ours = Ours.make(case, 4, torch.float64)
    check(name, COMPETITORS[name](ours), ours)


@pytest.mark.parametrize("answer", ["y", "gx", "gvalues", "gbias"])
@pytest.mark.parametrize("name", USUAL)
def test_a_wrong_answer_is_found(name: str, answer: str) -> None:
    ours = Ours.make(SMALL[0], 4, torch.float32)
    wrong = getattr(ours.answers, answer).clone()
    wrong[tuple(size // 2 for size in wrong.shape)] += 0.01
    broken = ours._replace(answers=ours.answers._replace(**{answer: wrong}))
    with pytest.raises(WrongAnswer, match=r"plain: .* times as far apart"):
        check(name, COMPETITORS[name](ours), broken)


@pytest.mark.parametrize("name", ["linear", "csr"])
def test_full_support_beside_what_has_all_weights(name: str) -> None:
    ours = Ours.make(FULL, 4, torch.float64)
    assert ours.answers.gvalues.numel() == ours.values.numel() == FULL.in_features * FULL.out_features
    check(name, COMPETITORS[name](ours), ours)
    swapped = ours.answers.gvalues.roll(1, dims=0)
    with pytest.raises(WrongAnswer, match="gvalues"):
        check(name, COMPETITORS[name](ours), ours._replace(answers=ours.answers._replace(gvalues=swapped)))


@pytest.mark.parametrize("name", ["conv", "unfold"])
def test_full_support_leaves_out_what_has_local_weights(name: str) -> None:
    assert contender(name, Ours.make(FULL, 4, torch.float32), 1.0) == "has no off-local weights"


def test_linear_runs_through_both_libraries() -> None:
    ours = Ours.make(FULL, 4, torch.float32)
    linear = DenseLinear(ours)
    assert ("oneDNN" in linear.variants) == torch.backends.mkldnn.is_available()
    assert len({answer.partition(" ")[2] for answer in linear.compare(ours)}) == len(linear.variants)
    check("linear", linear, ours)


@pytest.mark.parametrize("case", [SMALL[0], SMALL[2], FULL], ids=lambda case: case.name)
def test_passes_are_those_of_the_step(case: Case) -> None:
    ours = Ours.make(case, 4, torch.float64)
    y, gx, gvalues, _ = ours.answers
    found: dict[str, Any] = {name: step() for name, step in ours.passes().items()}
    for sites, image in ((found["forward"], y), (found["grad_input"], gx)):
        grouped = sites.unflatten(1, (-1, case.groups)).permute(0, 2, 3, 1).reshape(image.shape)
        torch.testing.assert_close(grouped, image)
    assert sorted(part.numel() for part in found["grad_weight"]) == sorted(p.numel() for p, _ in ours.layer._parts())
    assert sum(float(part.sum()) for part in found["grad_weight"]) == pytest.approx(float(gvalues.sum()))


def test_step_without_grad_input() -> None:
    ours = Ours.make(SMALL[0], 4, torch.float64)
    found: Any = ours.step(grad_input=False)()
    for got, wanted in zip(found, (ours.answers.y, ours.answers.gvalues, ours.answers.gbias), strict=True):
        torch.testing.assert_close(got, wanted)


def test_too_large_competitors_are_skipped() -> None:
    ours = Ours.make(Case("large", 1, 1, (230, 230), 1), 1, torch.float32)
    reason = contender("linear", ours, 1.0)
    assert isinstance(reason, str)
    assert reason.startswith("needs 33.6 GB, more than the limit of")


def test_half_precision_leaves_out_what_torch_cannot_do() -> None:
    ours = Ours.make(SMALL[0], 4, torch.bfloat16)
    assert contender("csr", ours, 1.0) == "torch does not compute it in bfloat16"


def test_flop_counts_live_reads() -> None:
    case = SMALL[2]
    reads = case.geometry.taps().out.size * case.groups
    ours = Ours.make(case, 4, torch.float32)
    assert ours.work.flop == 2 * 4 * reads * 2 * 3
    # 6 and 9 channels of 8x7 pixels on both sides
    assert ours.work.bytes == 4 * (reads * 2 * 3 + 4 * (6 + 9) * 56)


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
    assert Peak(100e9, 190e9, forced=True).doubt() is None


def test_attainable_is_the_lower_roof() -> None:
    peak = Peak(200e9, copy=20e9)
    assert (peak.attainable(4.0), peak.attainable(40.0), Peak(copy=20e9).attainable(4.0)) == (80e9, 200e9, None)


def test_a_copy_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efcn_kernels.bench.peak._COPIED_BYTES", 1 << 20)
    assert 1e6 < copy_rate(1) < 1e14


def test_doubted_shares_are_withheld_not_cut_off() -> None:
    result = fabricated(Peak(100e9, 190e9))
    written = result.as_dict()
    assert "cannot be right" in written["peak_doubt"]
    assert all(p["share_of_peak"] is p["share_of_attainable"] is None for case in written["cases"] for p in case["passes"].values())
    assert written["cases"][0]["step_shares_of_peak"] == {"ours": None}


def test_shares() -> None:
    result = fabricated(Peak(100e9, 50e9, 8e9))
    result.cases[0].steps[NO_GRAD_INPUT] = Timing([2.0])
    case = result.as_dict()["cases"][0]
    # 10 FLOP a byte at 8 GB/s; steps of 2 ms with three and with two passes of 50 MFLOP
    assert case["attainable_gflops"] == pytest.approx(80)
    assert [case["passes"]["forward"][f"share_of_{of}"] for of in ("peak", "attainable")] == pytest.approx([0.5, 0.625])
    assert case["step_shares_of_peak"] == pytest.approx({"ours": 0.75, NO_GRAD_INPUT: 0.5})


def test_sums_leave_out_what_was_not_timed_everywhere() -> None:
    result = fabricated(Peak())
    del result.cases[1].steps["linear"]
    assert result.sums() == {("these layers", 250): {"ours": 4.0, "conv": 6.0}}
    result.cases[1].batch = 8
    assert result.sums() == {}
    result.cases[1].batch = 250
    assert sum_lines(result)[1] == "these layers together, N 250: ours 4.00 ms, conv 6.00 ms (1.50x)"


def test_what_was_skipped_is_said_once_for_all_batches() -> None:
    result = fabricated(Peak())
    result.cases[1].case, result.cases[1].batch = result.cases[0].case, 8
    for case in result.cases:
        case.skipped["linear"] = "has no time"
    assert skipped_lines(result) == ["", "plain, N 250, 8: linear skipped, it has no time"]


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
    settings = Settings(batches=(4, 1), rounds=3, limit_s=1.0, contiguous=True)
    result = run_function([replace(SMALL[0], name="alexnet.conv1", first=True)], settings)
    path = tmp_path / "made" / "bench.json"
    prepare(path)
    result.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["bench.json"]
    written = load(path)
    keys = {"schema", "date", "machine", "commit", "versions", "settings", "peak_gflops", "torch_mm_gflops", "copy_gbytes", "peak_doubt"}
    assert {*keys, "cases", "sums_ms"} <= set(written)
    assert {"cpu", "cores", "threads", "isa", "load_at_start"} <= set(written["machine"])
    assert [case["batch"] for case in written["cases"]] == [4, 1]
    case = written["cases"][0]
    assert set(case["steps"]) == {"ours", "ours, contiguous", "ours, no grad-input", *USUAL}
    assert set(case["passes"]) == {"forward", "grad_input", "grad_weight"}
    for timing in (*case["steps"].values(), *case["passes"].values()):
        assert len(timing["rounds_ms"]) == 3
        assert timing["lower_quartile_ms"] <= timing["median_ms"] <= timing["upper_quartile_ms"]
    conv = case["steps"]["conv"]
    assert set(conv["variants_ms"]) == {"NCHW", "channels_last"}
    assert conv["median_ms"] == min(conv["variants_ms"].values()) == conv["variants_ms"][conv["variant"]]


@pytest.mark.skipif(not cpu.isas(), reason="the compiled library is missing")
def test_an_instruction_set_can_be_forced() -> None:
    before = cpu.isa()
    result = run_function([SMALL[0]], Settings(batches=(4,), rounds=3, against=(), isa=cpu.isas()[0]))
    assert result.provenance["machine"]["isa"] == cpu.isas()[0]
    assert result.peak.forced == (len(cpu.isas()) > 1)
    assert cpu.isa() == before


@pytest.mark.parametrize(("text", "reason"), [("{", "cannot read"), ("[]", "schema None"), ('{"schema": 1}', "schema 1, this version reads 2")])
def test_other_files_are_no_results(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"x.json.*{reason}|{reason}.*x.json"):
        load(path)
    with pytest.raises(ValueError, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "wrong",
    [{"dtype": "int8"}, {"against": ("float32",)}, {"against": ("tf",)}, {"batches": (250, 0)}, {"isa": "sse9"}, {"rounds": 0}, {"limit_s": 0.0}],
)
def test_settings_refuse_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Settings(**wrong)


def fabricated(peak: Peak) -> Result:
    """Two layers of 2 ms; forward at 50 GFLOP/s."""
    result = Result({}, provenance(), peak)
    for case in SMALL[:2]:
        steps = {"ours": Timing([2.0]), "conv": Timing([3.0], "NCHW"), "linear": Timing([9.0])}
        result.cases.append(CaseResult(case, 250, 10, 50_000_000, 5_000_000, steps, {"forward": Timing([1.0])}))
    return result


def test_half_precision_beside_float32() -> None:
    result = run_function([SMALL[0]], Settings(batches=(4,), rounds=3, dtype="bfloat16", against=("float32",)))
    assert result.cases[0].ratio("float32") > 0
