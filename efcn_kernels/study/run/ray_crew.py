"""The tasks of a study over a Ray cluster whose machines share the study's folder (the extra `ray`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from efcn_kernels.study.config import Config
from efcn_kernels.study.run.crew import Outcome, WorkerDied, threads_of
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.worker import attempt
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train.setting import Setting
from efcn_kernels.study.train.stopping import stopping


class RayMissing(ValueError):
    """Ray is not installed."""


class RayCrew:
    """As many tasks at a time as the cluster has room for, each with its threads as CPUs, and a GPU where the study wants one."""

    def __init__(self, workspace: Workspace, config: Config, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise RayMissing("Ray is not installed: pip install 'efcn_kernels[ray]'") from error
        self._ray: Any = ray
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False)
        threads = threads_of(config)
        gpus = config.run.device == "cuda" or (config.run.device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1)
        options = {"num_cpus": threads, "num_gpus": int(gpus), "max_retries": 0}
        self._run = ray.remote(_run).options(**options)
        self._given = ray.put((workspace.root.resolve(), _from_anywhere(config), threads))
        self._room = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        self._working: dict[Any, Task] = {}

    @property
    def free(self) -> int:
        return self._room - len(self._working)

    def start(self, task: Task) -> None:
        self._working[self._run.remote(self._given, task)] = task

    def outcomes(self, seconds: float) -> list[Outcome]:
        if not self._working:
            return []
        done, _ = self._ray.wait(list(self._working), num_returns=1, timeout=seconds)
        return [(self._working.pop(reference), self._outcome(reference)) for reference in done]

    def stop(self) -> None:
        # tasks of Ray hear no signal that saves: what they saved last is kept
        for reference in self._working:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        self._working.clear()

    def _outcome(self, reference: Any) -> BaseException | None:
        try:
            error: BaseException | None = self._ray.get(reference)
        except (self._ray.exceptions.RayError, self._ray.exceptions.TaskCancelledError) as died:
            return WorkerDied(f"its worker was lost ({type(died).__name__}); what it had saved is kept")
        return error


def _from_anywhere(config: Config) -> Config:
    """The configuration with its data folder as an absolute path: workers have another current folder, and not our environment."""
    folder = config.data.folder or os.environ.get("EFCN_DATA")
    if not folder:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"folder": str(Path(folder).expanduser().resolve())})})


def _run(given: Any, task: Task) -> BaseException | None:
    """On a worker of the cluster."""
    root, config, threads = given
    torch.set_num_threads(threads)
    try:
        setting = Setting.of(config)
    except (ValueError, OSError) as error:
        # images that lie nowhere on this machine
        return error
    with stopping() as stop:
        return attempt(task, Workspace(root, config), setting, stop)
