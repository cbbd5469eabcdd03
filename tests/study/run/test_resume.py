"""A study that was broken off goes on to the same bits."""

import multiprocessing
import os
import random
import resource
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from efcn_kernels.study.run import plan
from efcn_kernels.study.run.storage import StorageError
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train import setting
from efcn_kernels.study.train.journal import read
from tests.support.small_study import bits, config, work

WANTED = config()


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `work` changes in this process comes back."""
    monkeypatch.setattr(setting, "_MODELS", dict(setting._MODELS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study without an interruption."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting, "_MODELS", dict(setting._MODELS))
        work(root, WANTED)
    return root


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start in no time, for the modules are loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.small_study"])
    return context


def test_killed_ten_times_at_random_moments(whole: Path, tmp_path: Path, processes: ForkServerContext) -> None:
    moments = random.Random(7)
    kills = 0
    while kills < 10:
        process = processes.Process(target=work, args=(tmp_path, WANTED))
        process.start()
        # beginning takes longer than a batch: wait for a sign of this process
        before = _newest(tmp_path)
        while process.is_alive() and _newest(tmp_path) == before:
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.12))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"the study was over after {kills} kills: let it take longer"
        kills += 1
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)


def _newest(root: Path) -> float:
    # between two renames there is none
    return max((path.stat().st_mtime for path in [*root.rglob("checkpoint.previous.safetensors")]), default=0.0)


def test_ctrl_c_keeps_the_batch(whole: Path, tmp_path: Path, processes: ForkServerContext) -> None:
    # no checkpoint by the clock: what is there was saved because of the signal
    slow = config(run={"checkpoint_seconds": 1e6})
    process = processes.Process(target=_interrupted, args=(tmp_path, slow))
    process.start()
    journal = Workspace(tmp_path, slow).journal(plan.tasks(slow)[0])
    while process.is_alive() and len(read(journal.path)) < 2:
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    assert list(tmp_path.rglob("checkpoint.safetensors"))
    work(tmp_path, slow)
    assert bits(tmp_path) == bits(whole)


def _interrupted(root: Path, wanted: Any) -> None:
    with pytest.raises(KeyboardInterrupt, match="is kept in the middle of epoch"):
        work(root, wanted)
    raise SystemExit(130)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped bit", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole: Path, tmp_path: Path, damage: str, processes: ForkServerContext) -> None:
    _break_off(tmp_path, processes)
    (path,) = tmp_path.rglob("checkpoint.safetensors")
    assert path.with_name("checkpoint.previous.safetensors").exists()
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-100] ^= 4
        path.write_bytes({"truncated": bytes(content[:-1000]), "empty": b"", "flipped bit": bytes(content)}[damage])
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)


def test_with_both_damaged_it_starts_anew(whole: Path, tmp_path: Path, processes: ForkServerContext) -> None:
    _break_off(tmp_path, processes)
    for path in tmp_path.rglob("checkpoint*.safetensors"):
        path.write_bytes(b"nothing")
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)


def test_metrics_shorter_than_the_checkpoint_says_are_not_gone_on_from(whole: Path, tmp_path: Path, processes: ForkServerContext) -> None:
    _break_off(tmp_path, processes)
    (journal,) = tmp_path.rglob("metrics.jsonl")
    journal.write_bytes(journal.read_bytes()[:40])
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)


def test_what_was_written_after_the_checkpoint_is_not_there_twice(whole: Path, tmp_path: Path, processes: ForkServerContext) -> None:
    """Killed after an epoch's row and before the next checkpoint, in the middle of another row."""
    _break_off(tmp_path, processes)
    (journal,) = tmp_path.rglob("metrics.jsonl")
    rows = Workspace(whole, WANTED).journal(plan.tasks(WANTED)[0]).path.read_bytes().splitlines(keepends=True)
    # its own lines stay as they are: the checkpoint says how many bytes they have
    there = journal.read_bytes()[: journal.read_bytes().rfind(b"\n") + 1]
    journal.write_bytes(there + rows[min(there.count(b"\n"), len(rows) - 1)] + rows[-1][:40])
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)


def _break_off(root: Path, processes: ForkServerContext) -> None:
    """Kill a study in the CNN's second epoch."""
    process = processes.Process(target=work, args=(root, WANTED))
    process.start()
    journal = Workspace(root, WANTED).journal(plan.tasks(WANTED)[0])
    while process.is_alive() and len(read(journal.path)) < 3:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_full_disk_is_said_and_loses_nothing(whole: Path, tmp_path: Path) -> None:
    """The system refuses to write files of more than some size, as a disk without room does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # room for all but a checkpoint
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*safetensors: .*File too large.*what was written before is kept"):
            work(tmp_path, WANTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.rglob("*.part-*"))
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)


def test_a_study_is_extended(whole: Path, tmp_path: Path) -> None:
    """Fewer epochs and times first, then all: the same as all at once, and what is there is not done again."""
    work(tmp_path, config(cnn={"epochs": 2}, relax={"epochs": 1}))
    kept = {path: path.read_bytes() for path in tmp_path.rglob("epoch-001.safetensors")}
    work(tmp_path, WANTED)
    assert bits(tmp_path) == bits(whole)
    assert {path: path.read_bytes() for path in kept} == kept
    # a snapshot that was not kept the first time: the CNN is trained again
    more = config(relax={"times": (1, 2)})
    work(tmp_path, more)
    assert len(list(tmp_path.rglob("epoch-*.safetensors"))) == 2
    again = bits(tmp_path)
    assert all(again[name] == value for name, value in bits(whole).items())
