"""A whole study: which task next, what went wrong, how long it will take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from rich.console import Console

from efcn_kernels.study.config import Config
from efcn_kernels.study.data.sets import load
from efcn_kernels.study.results import prepare_folder
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.crew import Crew, Processes
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.progress import Display
from efcn_kernels.study.run.ray_crew import RayCrew
from efcn_kernels.study.run.worker import LOCK, locked, run_task
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train.setting import Setting, device_of, load_data
from efcn_kernels.study.train.stopping import Interrupted, Stop, stopping
from efcn_kernels.study.train.team import Team, assembled

# how often the display is brought up to date and new work looked for
_SECONDS = 0.5


class StudyError(RuntimeError):
    """Some tasks went wrong; all others were done. The message has one part for each."""


def run_study(config: Config, folder: Path, console: Console | None = None, ray: str | None = None) -> Workspace:
    """Do what is left to do of the study in `folder`.

    ray: the address of a cluster, or "local" to start one on this machine. Started by torchrun, its processes train each network together.

    Raises before anything is trained OutputError for a folder that cannot be written, FolderError for one of another configuration, DataError
    for images that are not there, BusyError while another process is at work there; at the end StudyError where tasks went wrong,
    Interrupted on Ctrl-C. After each of these the same call goes on where the work was left.
    """
    workspace = Workspace(folder, config)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with assembled(device_of(config)) as team:
            _together(workspace, config, team, console)
        return workspace
    with _opened(workspace, console):
        crew: Crew = Processes(workspace, config) if ray is None else RayCrew(workspace, config, ray)
        with stopping() as stop, Display(console, workspace) as display:
            try:
                _dispatch(workspace, crew, stop, display)
            finally:
                crew.close()
    return workspace


@contextmanager
def _opened(workspace: Workspace, console: Console | None) -> Iterator[None]:
    """Hold the folder of a study for which all is there, and note the configuration in it."""
    config = workspace.config
    prepare_folder(workspace.root)
    with locked(workspace.root / LOCK):
        workspace.check()
        device_of(config)
        load(config.data.name, config.data.folder, console=console)
        load_data(config)
        # only now, so that a mistake does not take the place of a configuration that worked
        workspace.open()
        yield


def _dispatch(workspace: Workspace, crew: Crew, stop: Stop, display: Display) -> None:
    todo = [task for task in plan.tasks(workspace.config) if not workspace.done(task)]
    working: list[Task] = []
    wrong: dict[str, BaseException] = {}
    told = False
    while todo or working:
        if not stop.wanted:
            for task in [task for task in todo if not workspace.lacking(task)][: crew.free]:
                crew.start(task)
                todo.remove(task)
                working.append(task)
        if not working:
            break
        for task, error in crew.outcomes(_SECONDS):
            working.remove(task)
            # the worker may have heard the signal before we did
            stop.wanted |= isinstance(error, KeyboardInterrupt)
            if error is not None:
                wrong[task.name] = error
            display.ended(task, error, working, crew.free + len(working))
        display.show(working, crew.free + len(working))
        if stop.wanted and not told:
            crew.stop()
            told = True
    if stop.wanted:
        raise Interrupted(f"interrupted: everything so far is kept in {workspace.root}; the same command goes on")
    if wrong:
        after = f"; {len(todo)} {'task waits' if len(todo) == 1 else 'tasks wait'} for them" if todo else ""
        raise StudyError("; ".join(f"{name}: {error}" for name, error in wrong.items()) + f"{after}. The same command goes on from what is kept")
    _nothing_left(workspace, todo)


def _nothing_left(workspace: Workspace, todo: Sequence[Task]) -> None:
    """Raises StudyError for tasks that need what no task will make."""
    if not todo:
        return
    waiting = "; ".join(f"{task.name} needs {', '.join(workspace.lacking(task))}" for task in todo)
    ended = [(task, workspace.result(task)) for task in plan.tasks(workspace.config)]
    why = [f"{task.name} diverged after epoch {found['end']}: {found['reason']}" for task, found in ended if found and found["status"] == "diverged"]
    raise StudyError(f"these cannot begin: {waiting}, which nothing here will make any more" + "".join(f"; {each}" for each in why))


def _together(workspace: Workspace, config: Config, team: Team, console: Console | None) -> None:
    """One task after the other, each by the whole team."""
    torch.set_num_threads(config.run.threads or torch.get_num_threads())
    # the first process decides for all; torchrun ends the others with it
    with _opened(workspace, console) if team.leads else nullcontext(), stopping(heard=team.leads) as stop:
        team.wait()
        setting = Setting.of(config)
        for task in plan.tasks(config):
            wanted = team.total(float(team.leads and not workspace.done(task) and not workspace.lacking(task)))[0] > 0
            if wanted:
                if console is not None and team.leads:
                    console.print(f"{task.name}, by {team.size} processes")
                run_task(task, workspace, setting, stop, team)
            team.wait()
        if team.leads:
            _nothing_left(workspace, [task for task in plan.tasks(config) if not workspace.done(task)])
