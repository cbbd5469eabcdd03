"""What of a study is published: enough for its report, and nothing of the machine."""

import getpass
import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from efcn_kernels.study.config import load
from efcn_kernels.study.report import publish, publish_study, write_report
from efcn_kernels.study.results import portable, without_kernel
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.scheduler import run_study
from efcn_kernels.study.run.workspace import Workspace


@pytest.fixture(scope="module")
def published(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished study, published."""
    return publish_study(finished.root, tmp_path_factory.mktemp("published") / "name").parent.parent


def test_the_report_can_be_drawn_again(finished: Workspace, published: Path, tmp_path: Path) -> None:
    page = published / "report" / "index.html"
    assert write_report(published, tmp_path / "again").read_bytes() == page.read_bytes()
    assert write_report(finished.root, tmp_path / "before").read_bytes() == page.read_bytes()
    assert (tmp_path / "before" / "index.md").read_bytes() == (published / "report" / "index.md").read_bytes()


def test_nothing_is_there_twice_or_too_much(published: Path) -> None:
    names = [path.name for path in published.rglob("*") if path.is_file()]
    assert not [name for name in names if name.startswith("checkpoint") or name.endswith(".lock") or ".part-" in name or name == "progress.json"]
    assert len({Path(name).stem for name in names if name.endswith((".png", ".svg"))}) == len([n for n in names if n.endswith((".png", ".svg"))])
    assert {
        "config.toml",
        "environment.json",
        "task.json",
        "metrics.jsonl",
        "result.json",
        "heatmaps.npz",
        "answers.npz",
        "index.md",
        "epochs.csv",
    } <= set(names)


def test_nothing_names_the_machine(finished: Workspace, tmp_path: Path) -> None:
    """Of a study whose records do."""
    study = tmp_path / "study"
    shutil.copytree(finished.root, study, ignore=shutil.ignore_patterns("report", "*.safetensors"))
    config = (study / "config.toml").read_text().replace("[data]", f'[data]\nfolder = "{tmp_path}/images"')
    (study / "config.toml").write_text(config)
    environment = json.loads((study / "environment.json").read_text())
    environment["sessions"][0] |= {
        "command": ["relax", str(tmp_path / "x.toml"), "--out", str(study)],
        "platform": "Linux-6.1-somebodys-x86_64-with-glibc2.36",
    }
    (study / "environment.json").write_text(json.dumps(environment))
    target = tmp_path / "target"
    publish_study(study, target)
    words = "|".join(map(re.escape, (str(tmp_path), f"{Path.home()}/", f"/{getpass.getuser()}/", "somebodys")))
    for path in target.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".toml", ".csv", ".md", ".html"):
            assert not re.search(rf"{words}|\b{re.escape(socket.gethostname())}\b", re.sub('base64,[^"]*', "", path.read_text())), path
    sessions = json.loads((target / "environment.json").read_text())["sessions"]
    assert (sessions[0]["command"], sessions[0]["platform"]) == (["relax", "x.toml"], "Linux-x86_64-with-glibc2.36")
    assert load(target / "config.toml").data.folder is None
    # the study itself is as it was
    assert (study / "config.toml").read_text() == config


def test_a_study_under_way_and_once_more(published: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(published, study)
    journal = study / "runs" / "seed-0" / "t001" / "eFCN" / "metrics.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    publish_study(study, tmp_path / "target")
    kept = tmp_path / "target" / journal.relative_to(study)
    assert kept.read_bytes() == whole[: whole.index(b"\n") + 1]
    journal.write_bytes(whole)
    publish_study(study, tmp_path / "target")
    assert kept.read_bytes() == whole


def test_a_copy_goes_on_from_what_has_finished(published: Path, tmp_path: Path) -> None:
    """A follower is trained anew from the CNN's snapshot, and nothing else."""
    study = tmp_path / "study"
    shutil.copytree(published, study)
    config = load(study / "config.toml")
    task = next(task for task in plan.tasks(config) if task.arm == "eFCN")
    shutil.rmtree(study / "runs" / task.name)
    before = {path: path.read_bytes() for path in study.rglob("metrics.jsonl")}
    workspace = run_study(config, study)
    assert workspace.done(task)
    assert before == {path: path.read_bytes() for path in before}
    again = workspace.journal(task).path.read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in again] == list(range(task.start, task.end + 1))


def test_large_snapshots_stay(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_SNAPSHOT_BYTES", 10)
    publish_study(finished.root, tmp_path / "target")
    assert not list((tmp_path / "target").rglob("*.safetensors"))


def test_where_it_may_not_go(finished: Workspace, published: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is the study itself: expected another folder"):
        publish_study(published, published)
    with pytest.raises(ValueError, match="holds checkpoints: expected a new folder"):
        publish_study(published, finished.root)
    with pytest.raises(ValueError, match="is no study"):
        publish_study(tmp_path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["relax", "a/b.toml", "--set", "run.seeds=[1, 2]"], ["relax", "a/b.toml", "--set", "run.seeds=[1, 2]"]),
        (["relax", "/home/me/b.toml", "--out", "/x", "--ray", "local"], ["relax", "b.toml"]),
        (["relax", "~/b.toml", "--out=x", "--ray=host:1"], ["relax", "b.toml"]),
        (["--set", "data.folder=/x", "--set=data.folder=/x", "--basetemp=/tmp/y"], ["--basetemp=y"]),
        (["relax", "--out"], ["relax"]),
    ],
)
def test_commands_without_their_machine(command: list[str], left: list[str]) -> None:
    assert portable(command) == left
    assert portable(left) == left


def test_platforms_without_their_kernel() -> None:
    assert without_kernel("Linux-6.1.0-13-amd64-x86_64-with-glibc2.36") == "Linux-x86_64-with-glibc2.36"
    assert without_kernel("Linux-x86_64-with-glibc2.36") == "Linux-x86_64-with-glibc2.36"


def test_snapshots_of_a_cnn_under_way_stay_at_home(finished: Workspace, tmp_path: Path) -> None:
    """Going on from them a copy would train another CNN beside them."""
    study = tmp_path / "study"
    shutil.copytree(finished.root, study, ignore=shutil.ignore_patterns("report", "checkpoint*"))
    (study / "runs" / "seed-0" / "CNN" / "result.json").unlink()
    publish_study(study, tmp_path / "target")
    assert not list((tmp_path / "target").rglob("*.safetensors"))
    assert list((tmp_path / "target").rglob("metrics.jsonl"))
