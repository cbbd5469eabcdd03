"""The GPU suite where there is no GPU: its driver, what it resumes, what it leaves out, and its report on a CPU's trial run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite import __main__ as command
from benchmarks.suite import networks, report
from benchmarks.suite.layers import vgg11
from benchmarks.suite.model import Ceilings, layout_of
from benchmarks.suite.parts import PARTS, Setting, run_part
from benchmarks.suite.store import FILE, SCHEMA, Store
from efcn_kernels.bench import device
from efcn_kernels.ops import build_info

ROOT = Path(__file__).parents[2]
CPU = Setting(torch.device("cpu"), quick=True)


@pytest.fixture(autouse=True)
def _no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run Triton's kernels in its interpreter, which takes seconds for what is timed here."""
    known = {name: state for name, state in build_info()["backends"].items() if name != "triton"}
    monkeypatch.setattr(device, "build_info", lambda: {"backends": known})


def counted(calls: list[str], *names: str) -> dict[str, Callable[[], dict[str, Any]]]:
    """Items that note that they were measured."""

    def item(name: str) -> Callable[[], dict[str, Any]]:
        def measure() -> dict[str, Any]:
            calls.append(name)
            if name.startswith("broken"):
                raise ArithmeticError(f"{name} is wrong")
            return {"value": len(calls)}

        return measure

    return {name: item(name) for name in names}


def test_the_driver_says_in_one_line_that_there_is_no_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "PYTHON": sys.executable, "OUT": str(tmp_path / "out")}
    done = subprocess.run(["bash", str(ROOT / "benchmarks/gpu_suite.sh")], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["gpu suite: there is no GPU here (torch.cuda.is_available() is false), nothing was run"]
    assert not done.stderr
    assert not (tmp_path / "out").exists()


def test_the_driver_wants_a_python_with_torch() -> None:
    environment = {**os.environ, "PYTHON": "false"}
    done = subprocess.run(["bash", str(ROOT / "benchmarks/gpu_suite.sh")], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpu suite: false has no torch; set PYTHON to one that has it\n"


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    calls: list[str] = []
    items = counted(calls, "a", "broken", "b")
    assert not Store(tmp_path, {"sources": "1"}).run("layers", items, 60)
    assert calls == ["a", "broken", "b"]
    again = Store(tmp_path, {"sources": "1"})
    assert again.part("layers")["failed"] == {"broken": "ArithmeticError: broken is wrong"}
    assert not again.run("layers", items, 60)
    assert calls[3:] == ["broken"]
    assert Store(tmp_path, {"sources": "1"}).run("layers", counted(calls, "a", "b"), 60)
    assert len(calls) == 4
    assert Store(tmp_path, {"sources": "2"}).items("layers") == {}
    assert Store(tmp_path, {"sources": "2"}).run("layers", counted(calls, "a"), 60)
    assert calls[4:] == ["a"]


def test_what_the_time_does_not_allow_is_listed_and_comes_next(tmp_path: Path) -> None:
    calls: list[str] = []
    items = counted(calls, "a", "b", "c")
    assert Store(tmp_path, {}).run("layers", items, 0.0)
    assert calls == []
    assert json.loads((tmp_path / FILE).read_text())["parts"]["layers"]["not_run"] == ["a", "b", "c"]
    store = Store(tmp_path, {})
    answers = iter([True, True, False])
    store.run("layers", items, 60, alive=lambda: next(answers))
    assert (calls, store.part("layers")["not_run"]) == (["a", "b"], ["c"])
    assert Store(tmp_path, {}).run("layers", items, 60)
    assert calls == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "cannot read"), ("[]", "schema None"), ('{"schema": 0}', f"schema 0, this version reads {SCHEMA}")]
)
def test_other_files_are_no_results(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=rf"{FILE}.*{reason}|{reason}.*{FILE}"):
        Store(tmp_path, {})


def test_layers_need_ceilings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run the part ceilings first"):
        run_part("layers", CPU, Store(tmp_path, {}), 60)


def test_a_trial_run_and_its_report(tmp_path: Path) -> None:
    """The parts that need no tool, in this process; a second run measures nothing."""
    names = ["ceilings", "layers", "profile"]
    for name in names:
        assert run_part(name, CPU, Store(tmp_path, CPU.identity()), 60)
    before = json.loads((tmp_path / FILE).read_text())["parts"]
    assert [name for name in names if before[name]["failed"] or before[name]["not_run"]] == []
    assert {"date", "machine", "commit", "versions"} <= set(before["layers"]["provenance"])
    entry = before["layers"]["items"]["quick.first, N 64, float32"]
    assert {"conv", "linear", "unfold", "ours", "ours, no grad-input"} <= set(entry["steps"])
    assert set(entry["steps"]["ours"]["variants_ms"]) == {"batch-last", "channels_last", "NCHW"}
    assert set(entry["predicted_ms"]["steps"]) <= set(entry["steps"])
    assert set(entry["predicted_ms"]["passes"]) == set(entry["passes"]) == {"forward", "grad_input", "grad_weight"}
    assert all(set(timing["variants_ms"]) == {"batch-last", "channels_last"} for timing in entry["passes"].values())
    assert set(entry["others"]) <= {"reference backend"}
    assert "GPUs only" in entry["skipped"]["torch BSR"]
    for name in names:
        assert run_part(name, CPU, Store(tmp_path, CPU.identity()), 60)
    assert json.loads((tmp_path / FILE).read_text())["parts"] == before

    assert "items measured, 0 failed, 0 not run" in report.write(tmp_path)
    text = (tmp_path / "gpu-suite.md").read_text()
    assert "| quick.wide (32->32 k3 p1 @5x5) | 64 |" in text
    assert "* networks: not run" in text
    assert (tmp_path / "gpu-suite-roofline-bfloat16.png").read_bytes()[:4] == b"\x89PNG"


def test_networks_stand_beside_what_is_predicted() -> None:
    items = networks.items(CPU.device, Ceilings(1e9, dict.fromkeys(device.PRECISIONS, 1e12)), quick=True)
    assert next(iter(items)) == "vgg11 at 32, N 32, bfloat16"
    found = items["skinny, N 8, tf32"]()
    assert set(found["steps"]) == {"cnn, NCHW", "cnn, channels_last", "elcn"}
    assert found["predicted_ms"]["elcn"] > found["predicted_ms"]["cnn"] > 0
    large = items["vgg11 at 32, N 32, bfloat16"]()
    convolutions = vgg11(32)
    assert large["weights"] == sum(layout_of(case).nnz + case.out_features for case in convolutions) + 512 * 10 + 10
    assert large["peak_bytes"] is None


def test_the_report_tells_what_failed_and_what_disagrees(tmp_path: Path) -> None:
    store = Store(tmp_path, CPU.identity())
    store.run(
        "layers",
        {"x, N 32, tf32": lambda: {"precision": "none", "skipped": {"conv": "disagrees: y"}}, **counted([], "broken, N 32, tf32")},
        60,
        CPU.provenance,
    )
    store.run("correctness", counted([], "triton, a", "triton, b"), 0.0, CPU.provenance)
    assert report.write(tmp_path).startswith("gpu suite: 1 items measured, 1 failed, 2 not run")
    text = (tmp_path / "gpu-suite.md").read_text()
    assert "* layers, broken, N 32, tf32: ArithmeticError: broken, N 32, tf32 is wrong" in text
    assert "* layers, x, N 32, tf32: disagrees: y" in text
    assert "* correctness, a: 1 not run" in text
    assert "* ceilings: not run" in text


def test_parts_run_in_processes_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path), "ceilings", "--device", "cpu", "--quick"]) == 0
    out = capfd.readouterr().out
    assert "ceilings: done" in out
    assert "1 items measured" in out
    assert set(json.loads((tmp_path / FILE).read_text())["parts"]) == {"ceilings"}


def test_a_part_ends_at_its_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "_GRACE_S", 0.0)
    assert command._process("ceilings", tmp_path, CPU, 0.05)
    assert command._process("ceilings", tmp_path, CPU, 0.0)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ceilings: stopped at its time limit")
    assert second == "ceilings: not run, the time is over"


def test_spare_time_goes_to_the_next_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, float] = {}
    monkeypatch.setattr(command, "_process", lambda name, out, setting, limit_s: given.setdefault(name, limit_s) > 0)
    monkeypatch.setattr(report, "write", lambda out: "")
    assert command.run(list(PARTS), tmp_path, CPU, 540)
    # none of them takes any time here: each is offered all that those after it do not need
    budgets = {name: part.budget_s for name, part in PARTS.items()}
    later = sum(budgets.values())
    for name, budget in budgets.items():
        later -= budget
        assert given[name] == pytest.approx(540 - command._RESERVE_S - later, abs=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["out", "speed"], "part must be one of ceilings, correctness"),
        (["out", "layers", "--alone", "--device", "cpu"], "run the part ceilings first"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    assert says in capsys.readouterr().err


def test_the_parts_fit_into_nine_minutes() -> None:
    assert sum(part.budget_s for part in PARTS.values()) <= 540 - command._RESERVE_S
