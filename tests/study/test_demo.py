"""The demonstration in its shortest form: every file, every number, and what Ctrl-C leaves."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from efcn_kernels.study import demo
from efcn_kernels.study.data.sets import ImageData
from efcn_kernels.study.models import small_cnn
from efcn_kernels.study.results import OutputError, Results, prepare_folder
from efcn_kernels.study.tables import EXACT
from efcn_kernels.study.train.epoch import EpochRecord, run_epoch

FILES = {
    "results.json",
    "heatmaps.npz",
    "curves.png",
    "relax_time.png",
    "cost.png",
    "heatmaps.png",
    "cnn_epoch_001.pt",
    "cnn_epoch_002.pt",
    "cnn_epoch_003.pt",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """One quick run: its folder, its results and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "deep" / "out"
    console = Console(file=io.StringIO(), width=80)
    results = demo.run_demo(folder, quick=True, console=console)
    assert isinstance(console.file, io.StringIO)
    return folder, results, console.file.getvalue()


def test_every_file_is_there(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder, results, _ = finished
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    for name in results["figures"]:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000


def test_the_results_say_what_was_done(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, results, _ = finished
    assert results["status"] == "finished"
    assert results["config"]["relax_epochs"] == (1, 2, 3)
    assert results["environment"]["packages"]["torch"] == torch.__version__
    assert [record["epoch"] for record in results["cnn"]["epochs"]] == [1, 2, 3, 4, 5]
    runs = [(run["name"], run["relax_epoch"]) for run in results["runs"]]
    assert runs == [(name, time) for time in (1, 2, 3) for name in ("CNN", "eLCN", "halo-1", "eFCN")]
    for run in results["runs"]:
        assert [record["epoch"] for record in run["epochs"]] == [run["relax_epoch"] + 1, run["relax_epoch"] + 2]
        assert run["seconds_per_epoch"] > 0


def test_networks_agree_before_the_first_step(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, results, _ = finished
    assert len(results["exactness"]) == 9
    for row in results["exactness"]:
        assert {"conv1", "conv2", "conv3", "output"} <= set(row["layers"])
        assert row["logits_max_rel"] < EXACT
        assert max(row["layers"].values()) < EXACT
        assert row["accuracy_cnn"] == row["accuracy_efcn"]


def test_weights_grow_with_the_support(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, results, _ = finished
    middle = {run["name"]: run for run in results["runs"] if run["relax_epoch"] == 2}
    counts = [middle[name]["weights"] for name in ("CNN", "eLCN", "halo-1", "eFCN")]
    assert counts == sorted(counts)
    assert middle["CNN"]["weights"] == sum(p.numel() for p in small_cnn(1, 28, 10).parameters())
    # with every block stored nothing is saved, and nothing more is spent either
    assert middle["eFCN"]["weights"] == middle["eFCN"]["dense_weights"]
    assert middle["eLCN"]["off_local_share"] == 0
    assert 0 < middle["halo-1"]["off_local_share"] < middle["eFCN"]["off_local_share"] < 1


def test_snapshots_can_be_loaded(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder, _, _ = finished
    network = small_cnn(1, 28, 10)
    network.load_state_dict(torch.load(folder / "cnn_epoch_002.pt", weights_only=True))


def test_heat_maps_hold_the_filter_and_what_grew(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder, results, _ = finished
    unit = results["heatmaps"]["unit"]
    window = np.zeros((1, 28, 28), dtype=bool)
    window[:, unit["top"] : unit["bottom"], unit["left"] : unit["right"]] = True
    with np.load(folder / "heatmaps.npz") as stored:
        maps = {name: stored[name] for name in stored.files}
    assert list(maps) == ["CNN", "eLCN", "halo-1", "eFCN"]
    for name, image in maps.items():
        assert image[window].all()
        assert (image[~window] != 0).any() == (name in ("halo-1", "eFCN"))


def test_the_console_shows_the_tables(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, results, text = finished
    assert "Before the first step" in text
    assert "eFCN from epoch 2" in text
    assert "NOT EXACT" not in text
    # on 80 columns every number is whole
    assert "\u2026" not in text
    for run in results["runs"]:
        assert f"{run['weights']:,}" in text
        assert f"{run['epochs'][-1]['test_accuracy']:.1%}" in text


def test_ctrl_c_leaves_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def stop_in_the_second_run(*args: Any, **kwargs: Any) -> EpochRecord:
        nonlocal calls
        calls += 1
        # five epochs of the CNN, two of its continuation from epoch 1, and one of the eLCN
        if calls == 9:
            raise KeyboardInterrupt
        return run_epoch(*args, **kwargs)

    monkeypatch.setattr(demo, "run_epoch", stop_in_the_second_run)
    with pytest.raises(demo.Interrupted) as caught:
        demo.run_demo(tmp_path, quick=True)
    assert "\n" not in str(caught.value)
    kept = f"5 finished stages, the last of them 'CNN from epoch 1', are kept in {tmp_path / 'results.json'}"
    assert str(caught.value) == f"interrupted: {kept}"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["status"] == "interrupted"
    assert [run["name"] for run in results["runs"]] == ["CNN"]
    assert len(results["exactness"]) == 9
    assert (tmp_path / "cnn_epoch_003.pt").is_file()


def test_colour_images_and_a_relax_time_of_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40) % 10
    colour = ImageData("colour", images, labels, images[:20], labels[:20], tuple("abcdefghij"), (0.5,) * 3, (0.25,) * 3)
    monkeypatch.setattr(demo, "load", lambda *_, **__: colour)
    results = demo.run_demo(tmp_path, epochs=1, relax_epochs=(0, 1), batch_size=20, relaxed_learning_rate=0.1)
    assert results["status"] == "finished"
    assert [run["relax_epoch"] for run in results["runs"]] == [0] * 4 + [1] * 4
    assert {path.name for path in tmp_path.iterdir()} >= {"cnn_epoch_000.pt", "curves.png", "heatmaps.png"}
    # at the same rate the CNN that goes on from a copy is the CNN that was never stopped
    for record, run in zip(results["cnn"]["epochs"], (results["runs"][0], results["runs"][4]), strict=True):
        assert run["name"] == "CNN"
        assert run["epochs"][0]["test_loss"] == record["test_loss"]


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load", lambda *_, **__: pytest.fail("images were read before the folder was tried"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write to the output folder .*file.*choose another one"):
        demo.run_demo(tmp_path / "file" / "out", quick=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"relax_epochs": ()},
        {"relax_epochs": (3, 1)},
        {"learning_rate": -1.0},
        {"relaxed_learning_rate": 0.0},
        {"batch_size": 0},
    ],
)
def test_impossible_settings(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected one epoch or more"):
        demo.run_demo(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_results_file_is_never_half_there(tmp_path: Path) -> None:
    results = Results(prepare_folder(tmp_path) / "results.json")
    results.finish_stage("one")
    results.content["wrong"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.finish_stage("two")
    assert json.loads(results.path.read_text())["stages"] == ["one"]
