"""The demonstration in its shortest form: interrupted, resumed, every file, every number, and what it says at its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from efcn_kernels import cli
from efcn_kernels.study.config import ConfigError, load
from efcn_kernels.study.data.sets import ImageData
from efcn_kernels.study.demo import CONFIG, demo_config, demo_folder
from efcn_kernels.study.models import small_cnn
from efcn_kernels.study.report import write_report
from efcn_kernels.study.report.numbers import EXACT
from efcn_kernels.study.results import OutputError
from efcn_kernels.study.run import plan, scheduler
from efcn_kernels.study.run.storage import load_tensors
from efcn_kernels.study.run.worker import run_task
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train import setting
from efcn_kernels.study.train.journal import read
from efcn_kernels.study.train.stopping import stopping

NAMES = ("CNN", "eLCN", "halo-1", "eFCN")
FIGURES = {"final-accuracy", "curves", "deviations", "masked-accuracy", "distances", "cost"}
HEAT_MAPS = {"heat-maps-001-0", "heat-maps-002-0", "heat-maps-002-1", "heat-maps-002-2", "heat-maps-003-0"}


class Demo(NamedTuple):
    """A quick demo: its folder, what the interrupted first run said and left, and what the second printed."""

    folder: Path
    code: int
    error: str
    left: bool
    printed: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder, demo_config(quick=True))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The epochs of a training."""
        return read(self.workspace.file(f"seed-0/{name}") / "metrics.jsonl")

    def result(self, name: str) -> dict[str, Any]:
        """What it found at its end."""
        found: dict[str, Any] = json.loads((self.workspace.file(f"seed-0/{name}") / "result.json").read_text())
        return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Ctrl-C once the CNN has been trained, then the same command again."""
    folder = tmp_path_factory.mktemp("demo") / "deep" / "out"
    words = ["demo", "--quick", "--out", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "efcn_kernels", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (folder / "runs/seed-0/CNN/result.json").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    left = demo_folder(folder, demo_config(quick=True)) == (folder, True)
    done = CliRunner().invoke(cli.app, words, env={"COLUMNS": "80", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return Demo(folder, process.returncode, error, left, done.stdout)


def test_ctrl_c_leaves_what_is_finished_and_the_same_command_resumes(demo: Demo) -> None:
    assert demo.code == 130
    assert demo.error.splitlines()[-1] == f"efcn: interrupted: everything so far is kept in {demo.folder}; the same command goes on"
    assert demo.left
    assert demo.printed.startswith(f"{demo.folder}: resumes the demo that was begun there\n")
    assert [path.name for path in demo.folder.parent.iterdir()] == ["out"]
    sessions = json.loads((demo.folder / "environment.json").read_text())["sessions"]
    assert len(sessions) == 2
    # trained once: the second session went on behind it
    assert [row["epoch"] for row in demo.rows("CNN")] == [0, 1, 2, 3, 4, 5]


def test_every_file_is_there(demo: Demo) -> None:
    report = demo.folder / "report"
    pictures = {f"{name}.{kind}" for name in FIGURES | HEAT_MAPS for kind in ("png", "svg")}
    assert {path.name for path in report.iterdir()} == pictures | {"index.html", "index.md", "epochs.csv", "finals.csv", "paths.csv"}
    for name in FIGURES | HEAT_MAPS:
        content = (report / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000
    # of what was not asked for there is no empty place
    assert "no data for this figure" not in (report / "index.html").read_text()


def test_the_results_say_what_was_done(demo: Demo) -> None:
    config = load(demo.folder / "config.toml")
    assert (config.times, config.relax.epochs, config.cnn.epochs) == ((1, 2, 3), 2, 5)
    assert (config.data.name, config.data.train_images, config.data.test_images) == ("fashion-mnist-small", 1000, 400)
    assert json.loads((demo.folder / "environment.json").read_text())["sessions"][0]["packages"]["torch"] == torch.__version__
    found = {str(path.parent.relative_to(demo.folder / "runs")) for path in demo.folder.rglob("result.json")}
    assert found == {"seed-0/CNN", *(f"seed-0/t{at:03d}/{name}" for at in (1, 2, 3) for name in NAMES)}
    for at in (1, 2, 3):
        for name in NAMES:
            rows = demo.rows(f"t{at:03d}/{name}")
            assert [row["epoch"] for row in rows] == [at, at + 1, at + 2]
            assert all(row["seconds"] > 0 for row in rows[1:])


def test_networks_agree_before_the_first_step(demo: Demo) -> None:
    for at in (1, 2, 3):
        for name in NAMES[1:]:
            row = demo.rows(f"t{at:03d}/{name}")[0]["measured"]["exactness"]
            assert {"conv1", "conv2", "conv3", "output"} <= set(row["layers"])
            assert row["logits_max_rel"] < EXACT
            assert max(row["layers"].values()) < EXACT
            assert row["accuracy_cnn"] == row["accuracy_efcn"]


def test_weights_grow_with_the_support(demo: Demo) -> None:
    middle = {name: demo.result(f"t002/{name}")["measured"]["sizes"] for name in NAMES}
    counts = [middle[name]["weights"] for name in NAMES]
    assert counts == sorted(counts)
    assert middle["CNN"]["weights"] == sum(p.numel() for p in small_cnn(1, 28, 10).parameters())
    # with every block stored nothing is saved, and nothing more is spent either
    assert middle["eFCN"]["weights"] == middle["eFCN"]["dense_weights"]
    share = {name: demo.rows(f"t002/{name}")[-1]["measured"]["delta"]["whole"] for name in NAMES}
    assert share["CNN"] == share["eLCN"] == 0
    assert 0 < share["halo-1"] < share["eFCN"] < 1


def test_snapshots_can_be_loaded(demo: Demo) -> None:
    for at in (1, 2, 3):
        tensors, _ = load_tensors(demo.workspace.file(plan.snapshot(0, at)))
        small_cnn(1, 28, 10).load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})


def test_heat_maps_hold_the_filter_and_what_grew(demo: Demo) -> None:
    unit = demo.result("t002/eLCN")["measured"]["units"][0]
    window = np.zeros((1, 28, 28), dtype=bool)
    window[:, unit["top"] : unit["bottom"], unit["left"] : unit["right"]] = True
    for name in NAMES:
        with np.load(demo.folder / f"runs/seed-0/t002/{name}/heatmaps.npz") as stored:
            image = stored["weights"][0]
        assert image[window].all()
        assert (image[~window] != 0).any() == (name in ("halo-1", "eFCN"))


def test_it_ends_with_what_was_written_where_and_what_it_means(demo: Demo) -> None:
    lines = demo.printed.splitlines()
    # on 80 columns every number is whole, and every explanation is one line; only folders may be longer
    assert "\u2026" not in demo.printed
    assert not [line for line in lines if len(line) > 80 and str(demo.folder) not in line]
    for at in (1, 2, 3):
        for name in NAMES:
            told = [line.split() for line in lines if line.split()[:2] == [str(at), "control" if name == "CNN" else name]]
            assert len(told) == 1
            assert f"{100 * demo.rows(f't{at:03d}/{name}')[-1]['test_accuracy']:.2f}" in told[0]
            assert f"{demo.result(f't{at:03d}/{name}')['measured']['sizes']['weights']:,}" in told[0]
    assert "NOT EXACT" not in demo.printed
    assert "all 9 mapped networks are the CNN's function" in demo.printed
    explained = [line.strip().split("  ")[0] for line in lines[lines.index("What the rows mean") :]]
    rows = ("t_w", "CNN never stopped", "control CNN", *NAMES[1:], "difference", "*")
    for word in (*rows, *(f"{name}.png" for name in FIGURES), "heat-maps-*.png", "report/", "runs/", "config.toml"):
        assert explained.count(word) == 1, word
    assert lines[-1].strip() == f"Open {demo.folder / 'report' / 'index.html'}"
    assert (demo.folder / "report" / "index.html").is_file()


def test_a_second_run_overwrites_nothing(demo: Demo, tmp_path: Path) -> None:
    quick = demo_config(quick=True)
    assert demo_folder(demo.folder, quick) == (demo.folder.with_name("out-2"), False)
    # a beginning of another demo is left alone too
    begun = Workspace(tmp_path / "demo", demo_config(quick=True, seed=1))
    begun.open()
    assert demo_folder(tmp_path / "demo", quick) == (tmp_path / "demo-2", False)
    assert demo_folder(tmp_path / "demo", begun.config) == (tmp_path / "demo", True)
    # and so is what is no demo
    (tmp_path / "demo-2").mkdir()
    assert demo_folder(tmp_path / "demo", quick) == (tmp_path / "demo-2", False)
    (tmp_path / "demo-2" / "thesis.tex").touch()
    assert demo_folder(tmp_path / "demo", quick) == (tmp_path / "demo-3", False)


def test_a_demo_without_its_report_is_unfinished(demo: Demo, tmp_path: Path) -> None:
    os.symlink(demo.folder / "runs", tmp_path / "runs")
    (tmp_path / "config.toml").write_bytes((demo.folder / "config.toml").read_bytes())
    assert demo_folder(tmp_path, demo_config(quick=True)) == (tmp_path, True)


def test_options_are_overrides() -> None:
    config = demo_config(data="cifar10", data_dir='a "folder"', epochs=3, seed=7)
    assert (config.data.name, config.data.folder, config.relax.epochs, config.run.seeds) == ("cifar10", 'a "folder"', 3, (7,))
    assert config.cnn.epochs == config.times[-1] + 3
    assert demo_config() == load(CONFIG)
    assert demo_config(quick=True, epochs=1).cnn.epochs == 4


def test_colour_images_and_a_relax_time_of_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40) % 10
    colour = ImageData("colour", images, labels, images[:20], labels[:20], tuple("abcdefghij"), (0.5,) * 3, (0.25,) * 3)
    monkeypatch.setattr(setting, "load", lambda *_, **__: colour)
    sizes = ["data.train_images=40", "data.test_images=20", "cnn.batch_size=20"]
    config = load(CONFIG, [*sizes, "cnn.epochs=2", "relax.times=[0, 1]", "relax.epochs=1", "relax.learning_rate=0.1"])
    workspace = Workspace(tmp_path, config)
    workspace.open()
    shared = setting.Setting.of(config)
    with stopping() as stop:
        for task in plan.tasks(config):
            run_task(task, workspace, shared, stop)
    assert all(workspace.done(task) for task in plan.tasks(config))
    report = write_report(tmp_path).parent
    assert {path.name for path in report.iterdir()} >= {"curves.png", "final-accuracy.png", "heat-maps-000-0.png", "heat-maps-001-0.png"}
    # at the same rate the CNN that goes on from a copy is the CNN that was never stopped
    never = read(tmp_path / "runs/seed-0/CNN/metrics.jsonl")
    for at in (0, 1):
        control = read(tmp_path / f"runs/seed-0/t{at:03d}/CNN/metrics.jsonl")
        assert control[1]["test_loss"] == never[at + 1]["test_loss"]


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "load", lambda *_, **__: pytest.fail("images were read before the folder was tried"))
    (tmp_path / "file").write_text("in the way")
    config = demo_config(quick=True)
    for wanted in (tmp_path / "file", tmp_path / "file" / "out"):
        folder, begun = demo_folder(wanted, config)
        assert (folder, begun) == (wanted, False)
        with pytest.raises(OutputError, match=r"cannot write to the output folder .*file.*choose another one"):
            scheduler.run_study(config, folder)


@pytest.mark.parametrize(
    "wrong",
    ["relax.epochs=0", "relax.times=[]", "relax.times=[3, 1]", "cnn.learning_rate=-1.0", "relax.learning_rate=-0.1", "cnn.batch_size=0"],
)
def test_impossible_settings(wrong: str) -> None:
    key, _, value = wrong.partition("=")
    with pytest.raises(ConfigError) as caught:
        load(CONFIG, [wrong])
    for part in (key, value.strip("[]")):
        assert part in str(caught.value)


def test_impossible_options_are_repeated() -> None:
    with pytest.raises(ConfigError, match=r"relax\.epochs = 0"):
        demo_config(epochs=0)
    with pytest.raises(ConfigError, match=r"data\.name = 'imagenet': expected one of"):
        demo_config(data="imagenet")
    with pytest.raises(ConfigError, match=r"run\.seeds = .*-1"):
        demo_config(seed=-1)
