"""A process that runs tasks one after the other, its images loaded once."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from efcn_kernels.study.config import Config
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train.paths import run_paths
from efcn_kernels.study.train.setting import Setting
from efcn_kernels.study.train.stopping import Stop, stopping
from efcn_kernels.study.train.task import Training
from efcn_kernels.study.train.team import ALONE, Team

# held by whoever works in a folder
LOCK = ".lock"


class BusyError(RuntimeError):
    """Another process is at work in the same folder."""


def run_task(task: Task, workspace: Workspace, setting: Setting, stop: Stop, team: Team = ALONE) -> None:
    """Do `task`, or what is left of it. Raises Interrupted, StorageError, DamagedError, BusyError."""
    if task.arm != "paths":
        Training(task, workspace, setting, stop, team).run()
    elif team.leads:
        run_paths(task, workspace, setting, stop)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path` for this process; the system lets go of it when the process dies. Raises BusyError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another process is at work in {path.parent}: wait for it, or end it") from None
        yield


def serve(connection: Connection, root: Path, config: Config, threads: int) -> None:
    """Run the tasks that come over `connection` and answer each with None or what went wrong, until it is closed."""
    torch.set_num_threads(threads)
    with stopping() as stop:
        # a worker whose study has died must not go on writing
        threading.Thread(target=_outlive_nobody, args=(os.getppid(), stop), daemon=True).start()
        workspace, setting = Workspace(root, config), Setting.of(config)
        while True:
            try:
                task: Task = connection.recv()
            except EOFError:
                return
            connection.send(attempt(task, workspace, setting, stop))


def attempt(task: Task, workspace: Workspace, setting: Setting, stop: Stop) -> BaseException | None:
    """Run `task`; what it raised, or None."""
    try:
        with locked(workspace.folder(task) / LOCK):
            run_task(task, workspace, setting, stop)
    except (Exception, KeyboardInterrupt) as error:
        return error
    return None


def _outlive_nobody(parent: int, stop: Stop) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    stop.wanted = True
