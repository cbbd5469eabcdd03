"""The command line: happy paths, exit codes, and errors of one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from efcn_kernels import __version__, cli
from efcn_kernels.ops import dispatch
from efcn_kernels.study.run import scheduler as study_module
from efcn_kernels.verify import tolerance

EMBEDDED = Path(__file__).parents[2] / "examples" / "studies" / "embedded.toml"
SMALL_BENCH = ["bench", "skinny.conv3", "--batch", "4", "--rounds", "3", "--limit", "1"]


def efcn(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "80", "TERM": "dumb"})


def refused(result: Result, *parts: str) -> None:
    """Code 2, one line on stderr with these parts, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("efcn: ")
    assert all(part in result.stderr for part in parts), result.stderr


def test_version() -> None:
    assert efcn("--version").stdout == f"efcn_kernels {__version__}\n"


def test_info_says_what_is_there_and_why_not() -> None:
    result = efcn("info")
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("backend cpu", "backend reference", "csr", torch.__version__, "extra study", "tested: 2.11 to 2."))
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_no_command_shows_help() -> None:
    assert "verify" in efcn().output
    assert "Usage" in efcn("--help").stdout


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_verify(backend: str) -> None:
    result = efcn("verify", "--backend", backend, "--geometry", "masked 8->12 k3", "--geometry", "1->1 k3")
    assert result.exit_code == 0, result.output
    assert "all right" in result.stdout
    assert "double backward" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("op", "name"),
    [("bsr_linear", "forward"), ("bsr_linear_backward_input", "grad-input"), ("bsr_linear_backward_weight", "grad-weight")],
)
def test_verify_finds_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch, op: str, name: str) -> None:
    right = dispatch.get("reference")

    def wrong(out: torch.Tensor, *rest: Any) -> None:
        getattr(right, op)(out, *rest)
        if out.numel():
            out[tuple(size - 1 for size in out.shape)] += 0.1 * float(out.abs().max()) + 0.1

    changed: dict[str, Any] = {op: wrong}
    broken = replace(right, **changed)
    monkeypatch.setattr(dispatch, "get", lambda _: broken)
    monkeypatch.setattr(dispatch, "_found", {})
    result = efcn("verify", "--backend", "reference", "--geometry", "1->1 k3")
    assert result.exit_code == 1
    assert f"wrong: {name}" in result.stdout
    assert re.search(r"\d wrong;", result.stdout)


def test_verify_reports_a_kernel_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any) -> None:
        raise RuntimeError("out of order")

    broken = replace(dispatch.get("reference"), bsr_linear=raising)
    monkeypatch.setattr(dispatch, "get", lambda _: broken)
    monkeypatch.setattr(dispatch, "_found", {})
    result = efcn("verify", "--backend", "reference", "--geometry", "1->1 k3")
    assert result.exit_code == 1
    assert "RuntimeError: out of order" in result.stdout


def test_bench_prints_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = efcn(*SMALL_BENCH, "--contiguous", "--json", str(path))
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("skinny.conv3", "ours, contiguous", "conv, ", "linear", "unfold", "csr"))
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert json.loads(path.read_text())["settings"]["batches"] == [4]


def test_bench_lists_layers() -> None:
    result = efcn("bench", "--list")
    assert "alexnet.conv1" in result.stdout
    assert "64->192 k5 p2 @8x8" in result.stdout


def test_bench_options_take_commas_and_none() -> None:
    result = efcn("bench", "--layers", "skinny.conv3,odd", *SMALL_BENCH[2:], "--against", "none")
    assert result.exit_code == 0, result.output
    assert "these layers together, N 4" in result.stdout
    assert "conv, " not in result.stdout


def test_bench_report_writes_tables_and_figures(tmp_path: Path) -> None:
    path, folder = tmp_path / "some.json", tmp_path / "figures"
    assert efcn("bench", "odd", "--batch", "1", "--batch", "2", *SMALL_BENCH[4:], "--json", str(path)).exit_code == 0
    result = efcn("bench-report", str(path), "--markdown", str(folder / "table.md"), "--figures", str(folder))
    assert result.exit_code == 0, result.output
    # what was measured and no more: one layer at two batches
    rows = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["odd"]]
    assert [row[1] for row in rows] == ["1", "2"]
    assert not [word for word in ("not measured", "target", "alexnet") if word in result.stdout]
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "| odd (17->29 k3 p1 @13x11) | 2 |" in (folder / "table.md").read_text()
    assert {p.name for p in folder.iterdir()} == {"table.md", "some-steps.png"}


def test_bench_ends_with_code_1_where_answers_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerance, "disagreement", lambda *_: 7.0)
    result = efcn(*SMALL_BENCH)
    assert result.exit_code == 1
    assert result.stderr == "efcn: skinny.conv3: y of conv and ours are 7 times as far apart as rounding explains\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nope"], ["'nope'"]),
        (["verify", "--frob"], ["--frob"]),
        (["verify", "--isa", "sse9"], ["sse9"]),
        (["verify", "--device", "nowhere"], ["nowhere"]),
        (["verify", "--device", "meta", "--backend", "cpu"], ["compute on the CPU", "'cpu'", "meta"]),
        (["verify", "--backend", "gpu"], ["auto, cpu, cuda, triton, reference", "'gpu'"]),
        (["verify", "--geometry", "x"], ["'x'", "32->32 k3"]),
        (["bench", "nope"], ["'nope'", "alexnet"]),
        (["bench", "--dtype", "int8"], ["float32", "'int8'"]),
        (["bench", "--batch", "0"], ["--batch"]),
        (["bench", "--isa", "sse9"], ["isa", "'sse9'"]),
        (["bench-report", "nowhere.json"], ["nowhere.json", "efcn bench --json"]),
        (["bench", "--against", "tf"], ["conv, linear, unfold, csr", "'tf'"]),
        (["demo", "--data", "imagenet"], ["cifar10", "'imagenet'"]),
        (["demo", "--epochs", "0"], ["--epochs"]),
        (["relax", "nowhere.toml"], ["cannot read nowhere.toml", "No such file"]),
        (["relax", str(EMBEDDED), "--set", "relax.epoch=3"], ["unknown key 'relax.epoch'", "did you mean 'epochs'?"]),
        (["relax", str(EMBEDDED), "--set", "relax.times=[3, 900]"], ["relax.times [900] lie beyond"]),
        (["report", "nowhere"], ["nowhere is no study", "efcn relax"]),
        (["report", "nowhere", "--publish", "there"], ["nowhere is no study", "efcn relax"]),
        (["report", "nowhere", "--publish", "there", "--out", "x"], ["--publish there", "leave --out x away"]),
    ],
)
def test_bad_input_is_one_line(words: list[str], parts: list[str]) -> None:
    refused(efcn(*words), *parts)


def test_json_that_cannot_be_written_is_refused_before_timing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(efcn(*SMALL_BENCH, "--json", str(tmp_path / "file" / "x.json")), "cannot write")
    refused(efcn(*SMALL_BENCH, "--json", str(tmp_path)), "it is a folder")


def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[Any] = []

    def failing(config: Any, folder: Path, _: Any) -> None:
        given.extend((config, folder))
        raise study_module.StudyError("seed-0/CNN: its process was killed by signal 9")

    monkeypatch.setattr(study_module, "run_study", failing)
    result = efcn("demo", "--out", str(tmp_path), "--data", "mnist", "--data-dir", "there", "--epochs", "3", "--seed", "5", "--quick")
    config, folder = given
    assert folder == tmp_path
    assert (config.data.name, config.data.folder, config.relax.epochs, config.run.seeds, config.times) == ("mnist", "there", 3, (5,), (1, 2, 3))
    assert result.stdout.startswith(f"{tmp_path}: a new demo")
    # what goes wrong is said as by relax
    assert (result.exit_code, result.stderr) == (1, "efcn: seed-0/CNN: its process was killed by signal 9\n")


def test_demo_refuses_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = efcn("demo", "--out", str(tmp_path / "file" / "x"))
    assert result.exit_code == 2
    assert result.stderr.startswith("efcn: cannot write to the output folder")
    assert result.stderr.count("\n") == 1


def test_relax_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[Any] = []
    monkeypatch.setattr(study_module, "run_study", lambda config, folder, _, ray: given.append((config, folder, ray)))
    result = efcn("relax", str(EMBEDDED), "--set", "relax.epochs=3", "--set", "run.seeds=[4, 5]", "--out", str(tmp_path), "--ray", "local")
    assert result.exit_code == 0, result.output
    assert f"efcn report {tmp_path}" in result.stdout
    (config, folder, ray), *_ = given
    assert (config.relax.epochs, config.run.seeds, folder, ray) == (3, (4, 5), tmp_path, "local")
    # its own folder, and from there once more
    efcn("relax", str(EMBEDDED))
    (tmp_path / "config.toml").write_text(config.toml())
    efcn("relax", str(tmp_path))
    assert [(folder, ray) for _, folder, ray in given[1:]] == [(Path("runs/embedded"), None), (tmp_path, None)]
    assert given[2][0] == config


def test_relax_ends_with_code_1_where_tasks_went_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(*_: Any) -> None:
        raise study_module.StudyError("seed-0/CNN: its process was killed by signal 9")

    monkeypatch.setattr(study_module, "run_study", failing)
    result = efcn("relax", str(EMBEDDED), "--out", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == "efcn: seed-0/CNN: its process was killed by signal 9\n"
    assert result.stdout == ""


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "run_study", interrupted)
    result = efcn("demo", "--out", str(tmp_path))
    assert result.exit_code == 130
    assert result.stderr == "efcn: interrupted\n"


def test_as_a_process() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "efcn_kernels", "bench", "nope"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("efcn: no layer is named 'nope'")
    assert "Traceback" not in run.stderr
