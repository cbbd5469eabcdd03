"""Whole studies: processes, Ray, torchrun, and what is said when something is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from efcn_kernels.study.config import Config
from efcn_kernels.study.data.sets import MissingDataError
from efcn_kernels.study.results import OutputError
from efcn_kernels.study.run import plan
from efcn_kernels.study.run import scheduler as run
from efcn_kernels.study.run.crew import Processes, threads_of
from efcn_kernels.study.run.scheduler import StudyError, run_study
from efcn_kernels.study.run.worker import BusyError, locked
from efcn_kernels.study.run.workspace import FolderError, Workspace
from efcn_kernels.study.train.journal import read
from tests.support.small_study import EVERYTHING, ONLY_LOCAL, bits, config


def _rows(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    return read(workspace.file(name) / "metrics.jsonl")


def test_every_task_is_done(finished: Workspace) -> None:
    assert all(finished.done(task) for task in plan.tasks(EVERYTHING))
    for task in plan.tasks(EVERYTHING):
        if task.arm != "paths":
            assert [row["epoch"] for row in read(finished.journal(task).path)] == list(range(task.start, task.end + 1))
    sessions = json.loads((finished.root / "environment.json").read_text())["sessions"]
    assert sessions[0]["packages"]["torch"] == torch.__version__
    run_study(EVERYTHING, finished.root)
    assert len(json.loads((finished.root / "environment.json").read_text())["sessions"]) == 2


def test_followers_start_as_the_cnn_and_controls_do_not(finished: Workspace) -> None:
    before = _rows(finished, "seed-0/CNN")[1]
    for arm in ("eLCN", "halo-1", "eFCN"):
        start = _rows(finished, f"seed-0/t001/{arm}")[0]
        assert start["test_accuracy"] == before["test_accuracy"]
        assert start["measured"]["exactness"]["logits_max_rel"] < 1e-5
    for arm in ("FCN-norms",):
        assert abs(_rows(finished, f"seed-0/t001/{arm}")[0]["test_loss"] - before["test_loss"]) > 1e-3


def test_what_is_measured_fits(finished: Workspace) -> None:
    end = {arm: _rows(finished, f"seed-0/t001/{arm}")[-1]["measured"] for arm in ("eLCN", "halo-1", "eFCN", "CNN", "FCN-norms")}
    assert end["eLCN"]["delta"]["whole"] == end["CNN"]["delta"]["whole"] == 0
    assert 0 < end["halo-1"]["delta"]["whole"] < end["eFCN"]["delta_with_dead"]["whole"] + 1e-3
    assert end["CNN"]["sharing"]["whole"] < 1e-6 < end["eLCN"]["sharing"]["whole"]
    assert end["CNN"]["distance_to_cnn"] < 1e-6
    assert all(end[arm]["distance_to_snapshot"] >= end[arm]["distance_to_cnn"] > 0 for arm in ("eLCN", "halo-1", "eFCN"))
    assert {"without_local", "without_off_local", "nearest_cnn", "margins"} <= set(end["eFCN"])
    fcn = _rows(finished, "seed-0/FCN")
    assert fcn[0]["measured"]["delta"]["whole"] > 0.9
    result = finished.result(next(task for task in plan.tasks(EVERYTHING) if task.arm == "eFCN"))
    assert result is not None
    assert set(result["measured"]["spectrum"]) == {"conv1", "conv2", "conv3"}


def test_paths_begin_and_end_where_the_networks_do(finished: Workspace) -> None:
    found = finished.result(next(task for task in plan.tasks(EVERYTHING) if task.arm == "paths"))
    assert found is not None
    ends = {arm: _rows(finished, f"seed-0/t001/{arm}")[-1]["test_accuracy"] for arm in ("CNN", "eLCN", "halo-1", "eFCN")}
    for arm in ("eLCN", "halo-1", "eFCN"):
        for way in ("linear", "curvilinear", "outputs averaged", "string"):
            points = [row for row in found["ways"] if (row["follower"], row["way"]) == (arm, way)]
            assert [points[0]["test_accuracy"], points[-1]["test_accuracy"]] == pytest.approx([ends["CNN"], ends[arm]])
            assert len(points) == (5 if way == "string" else 11)


def test_a_killed_worker_costs_its_own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config(cnn={"epochs": 2}, relax=ONLY_LOCAL | {"times": (0, 1)}, run={"processes": 1})
    killed: list[int] = []
    start = Processes.start

    def killing(self: Processes, task: plan.Task) -> None:
        start(self, task)
        if task.name.endswith("t000/eLCN") and not killed:
            worker = next(hand.process for hand in self._hands if hand.task is task)
            assert worker.pid is not None
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    monkeypatch.setattr(Processes, "start", killing)
    with pytest.raises(StudyError, match=r"^seed-0/t000/eLCN: its process was killed by signal 9 .*\. The same command goes on") as raised:
        run_study(wanted, tmp_path)
    assert "t001" not in str(raised.value)
    workspace = Workspace(tmp_path, wanted)
    assert [task.name for task in plan.tasks(wanted) if not workspace.done(task)] == ["seed-0/t000/eLCN"]
    run_study(wanted, tmp_path)
    assert all(workspace.done(task) for task in plan.tasks(wanted))


def test_a_diverging_follower_is_a_result(tmp_path: Path) -> None:
    workspace = run_study(config(relax={"learning_rate": 1e6}), tmp_path)
    found = workspace.result(plan.tasks(workspace.config)[1])
    assert found is not None
    assert found["status"] == "diverged"
    assert "a smaller learning rate is needed" in found["reason"]


def test_a_diverging_cnn_leaves_its_followers_without_a_start(tmp_path: Path) -> None:
    wanted = config(cnn={"learning_rate": 1e6, "momentum": 0.0}, relax={"times": (0, 3)})
    with pytest.raises(
        StudyError, match=r"^these cannot begin: seed-0/t003/halo-1 needs seed-0/CNN/snapshots/epoch-003.safetensors, which"
    ) as raised:
        run_study(wanted, tmp_path)
    assert re.search(r"; seed-0/CNN diverged after epoch \d: the training loss became", str(raised.value))
    workspace = Workspace(tmp_path, wanted)
    assert [task.name for task in plan.tasks(wanted) if not workspace.done(task)] == ["seed-0/t003/halo-1"]


def test_a_task_that_is_further_is_not_cut_short(tmp_path: Path) -> None:
    """One that was broken off before its end, too."""
    wanted = config(relax={"epochs": 3})
    workspace = run_study(wanted, tmp_path)
    (workspace.file("seed-0/t001/halo-1") / "result.json").unlink()
    with pytest.raises(FolderError, match="seed-0/t001/halo-1 has gone on to epoch 4 and would now end at 2"):
        run_study(config(relax={"epochs": 1}), tmp_path)


def test_paths_are_drawn_again_where_their_ends_have_moved(tmp_path: Path) -> None:
    def study(**relax: Any) -> Config:
        return config(
            cnn={"epochs": 1},
            relax=ONLY_LOCAL | {"controls": ("CNN",), "epochs": 1} | relax,
            measure={"paths": "middle", "path_images": 60, "string_steps": 1},
        )

    def ways(wanted: Config) -> list[dict[str, Any]]:
        workspace = run_study(wanted, tmp_path)
        found = workspace.result(next(task for task in plan.tasks(wanted) if task.arm == "paths"))
        assert found is not None
        rows: list[dict[str, Any]] = found["ways"]
        return rows

    first = ways(study())
    assert ways(study()) == first
    longer = ways(study(epochs=2))
    assert [row["test_loss"] for row in longer] != [row["test_loss"] for row in first]
    assert {row["follower"] for row in ways(study(epochs=2, followers=("eLCN", "halo-1")))} == {"eLCN", "halo-1"}
    # a copy without checkpoints says what it lacks
    for path in tmp_path.rglob("checkpoint*"):
        path.unlink()
    more = study(epochs=2, followers=("eLCN",), controls=())
    with pytest.raises(StudyError, match=r"seed-0/t001/paths needs seed-0/t001/eLCN/checkpoint\.safetensors, which nothing here will make"):
        run_study(more, tmp_path)


def test_as_a_command_that_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C to the whole group, as a terminal sends it."""
    path = tmp_path / "small.toml"
    path.write_text(config(cnn={"epochs": 500}, run={"checkpoint_seconds": 60.0}).toml())
    command = [sys.executable, "-m", "efcn_kernels", "relax", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    journal = tmp_path / "out" / "runs" / "seed-0" / "CNN" / "metrics.jsonl"
    while process.poll() is None and len(read(journal)) < 3:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "everything so far is kept in" in said
    assert "Traceback" not in said
    assert (journal.parent / "checkpoint.safetensors").exists()


def test_two_studies_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock"), pytest.raises(BusyError, match="another process is at work in"):
        run_study(config(), tmp_path)


def test_the_folder_of_another_configuration(finished: Workspace) -> None:
    other = EVERYTHING.model_copy(update={"relax": EVERYTHING.relax.model_copy(update={"learning_rate": 0.7})})
    with pytest.raises(FolderError, match=r"relax.learning_rate was 0\.05 and is now 0\.7; choose another folder, or the old values"):
        run_study(other, finished.root)
    shorter = EVERYTHING.model_copy(update={"cnn": EVERYTHING.cnn.model_copy(update={"epochs": 1})})
    with pytest.raises(FolderError, match="seed-0/CNN has gone on to epoch 2 and would now end at 1"):
        run_study(shorter, finished.root)


def test_missing_data_and_folders_are_said_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise MissingDataError("put the files here")

    monkeypatch.setattr(run, "load", no_network)
    with pytest.raises(MissingDataError, match="put the files here"):
        run_study(config(data={"name": "mnist"}), tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"data\.train_images = 10001, but fashion-mnist-small has 10000"):
        run_study(config(data={"train_images": 10_001}), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"run\.device = 'cuda', but torch sees no GPU"):
            run_study(config(run={"device": "cuda"}), tmp_path)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        run_study(config(), tmp_path / "file" / "out")


def test_two_workers_of_a_ray_cluster(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'efcn_kernels[ray]'")
    wanted = config(cnn={"epochs": 2}, relax=ONLY_LOCAL | {"times": (0, 1)})
    run_study(wanted, tmp_path / "here")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", runtime_env={"env_vars": {"PYTHONPATH": os.getcwd()}})
    try:
        workspace = run_study(wanted, tmp_path / "there", ray="local")
    finally:
        ray.shutdown()
    assert all(workspace.done(task) for task in plan.tasks(wanted))
    assert bits(tmp_path / "there") == bits(tmp_path / "here")


def _torchrun(folder: Path, wanted: Config, processes: int) -> Workspace:
    path = folder / "study.toml"
    path.write_text(wanted.toml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "efcn_kernels", "relax", str(path), "--out", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("everything is done") == 1
    return Workspace(folder / "out", wanted)


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """torchrun, gloo: the same curve as one process, but for the rounding of sums in another order."""
    wanted = config(relax={"followers": ("halo-1",)}, cnn={"batch_size": 31})
    two = _torchrun(tmp_path, wanted, 2)
    one = run_study(wanted, tmp_path / "one")
    for task in plan.tasks(wanted):
        curves = [read(workspace.journal(task).path) for workspace in (one, two)]
        assert len(curves[0]) == len(curves[1])
        for alone, together in zip(*curves, strict=True):
            for key in ("train_loss", "test_loss"):
                assert key not in alone or abs(alone[key] - together[key]) < 1e-5 * alone[key]
            assert alone["test_accuracy"] == together["test_accuracy"]


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert threads_of(config(run={"processes": 3, "threads": None})) == 2
    assert threads_of(config(run={"processes": 30, "threads": None})) == 1
    assert threads_of(config(run={"threads": 5})) == 5


def test_outside_of_the_main_thread_signals_are_left_alone(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def study() -> None:
        try:
            run_study(config(cnn={"epochs": 1}, relax={"epochs": 1}), tmp_path)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=study)
    thread.start()
    thread.join()
    assert not failed
