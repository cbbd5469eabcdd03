"""The folder of a study: where everything lies, and whether it belongs to this configuration."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from efcn_kernels.study.config import Config
from efcn_kernels.study.results import environment, portable, prepare_folder
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.plan import CHECKPOINT, RESULT, Task
from efcn_kernels.study.run.storage import write_whole
from efcn_kernels.study.train.journal import Journal, read


class FolderError(ValueError):
    """The folder holds another study; the message says in what it differs."""


class Workspace:
    """The folder `root`: config.toml, environment.json, and below runs/ one folder for each task."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root, self.config = root, config

    def check(self) -> None:
        """Raises FolderError where the folder holds what another configuration has made."""
        for task in plan.tasks(self.config):
            self._check(task)

    def open(self) -> None:
        """Note the configuration and the machine. Raises FolderError, StorageError, OutputError for a folder that cannot be written."""
        prepare_folder(self.root)
        self.check()
        sessions = read_json(self.root / "environment.json") or {"sessions": []}
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        sessions["sessions"].append({"started": started, "command": portable(sys.argv[1:]), **environment()})
        write_whole(self.root / "environment.json", json.dumps(sessions, indent=1).encode())
        write_whole(self.root / "config.toml", self.config.toml().encode())

    def folder(self, task: Task) -> Path:
        """Where a task writes."""
        return self.root / "runs" / task.name

    def file(self, name: str) -> Path:
        """A file by its name below runs/."""
        return self.root / "runs" / name

    def journal(self, task: Task) -> Journal:
        """Its metrics by epoch."""
        return Journal(self.folder(task) / "metrics.jsonl")

    def progress(self, task: Task) -> dict[str, Any] | None:
        """Epochs done and the seconds so far, as the task last said; None before it has."""
        try:
            return read_json(self.folder(task) / "progress.json")
        except ValueError:
            # it is being written, or was when its process died
            return None

    def result(self, task: Task) -> dict[str, Any] | None:
        """What the task found, or None before its end (its end as configured now) and of paths between other ends than those of now."""
        found = read_json(self.folder(task) / RESULT)
        if found is None or (found["status"] == "finished" and found["end"] < task.end):
            return None
        if task.arm == "paths" and found.get("made_of") != plan.made_of(task, self.config):
            return None
        return found

    def done(self, task: Task) -> bool:
        """Whether nothing of the task is left to do."""
        found = self.result(task)
        # one that has diverged has no more snapshots to give
        wanted = [plan.snapshot(task.seed, time) for time in self.config.times if time <= found["end"]] if found and task.is_cnn else []
        return found is not None and all(self.file(name).exists() for name in wanted)

    def lacking(self, task: Task) -> list[str]:
        """What the task needs and what is not there, or not yet, by its name below runs/."""
        names = [name for name in plan.needs(task, self.config) if not self.file(name).exists()]
        for end in plan.joined(task, self.config):
            found = self.result(end)
            if found is None:
                names.append(f"{end.name}/{RESULT}")
            elif found["status"] == "finished" and not (self.folder(end) / CHECKPOINT).exists():
                names.append(f"{end.name}/{CHECKPOINT}")
        return names

    def claim(self, task: Task) -> None:
        """Make the task's folder and note what decides its result."""
        folder = self.folder(task)
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.rglob("*.part-*"):
            part.unlink()
        write_whole(folder / "task.json", json.dumps(asdict(task) | {"settings": plan.settings(task, self.config)}, indent=1).encode())

    def _check(self, task: Task) -> None:
        made = read_json(self.folder(task) / "task.json")
        if made is None:
            return
        now = plan.settings(task, self.config)
        different = [
            f"{section}.{key} was {old!r} and is now {now[section].get(key)!r}"
            for section, values in made["settings"].items()
            for key, old in values.items()
            if now[section].get(key) != old
        ]
        rows = read(self.journal(task).path)
        if rows and rows[-1]["epoch"] > task.end:
            different.append(f"{task.name} has gone on to epoch {rows[-1]['epoch']} and would now end at {task.end}")
        if different:
            raise FolderError(f"{self.root} was made with another configuration: {'; '.join(different)}; choose another folder, or the old values")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file that `write_whole` put there, or None where there is none."""
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
