"""What of a study others need: its numbers without checkpoints, nothing of the machine's folders, and its report."""

from __future__ import annotations

import json
from pathlib import Path

from efcn_kernels.study.report.gather import Study
from efcn_kernels.study.report.page import write_report
from efcn_kernels.study.results import portable, prepare_folder, without_kernel
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.storage import write_whole
from efcn_kernels.study.run.workspace import read_json

_KEPT = ("task.json", "metrics.jsonl", plan.RESULT, plan.HEAT_MAPS, plan.ANSWERS)
# snapshots of the CNN up to this size, so that others can go on from them: four of the Skinny CNN are 2.3 MB
_SNAPSHOT_BYTES = 1 << 20


def publish_study(folder: Path, target: Path) -> Path:
    """Copy into `target` what the report of `folder` is drawn from, and draw it into `target`/report; returns the page's path.

    What is there is a study's folder itself: `efcn report` draws it again, its config.toml starts the study anew, and `efcn relax` on a copy of
    it goes on from what has finished, if the CNN is small enough for its snapshots to be there. Once more into the same `target` brings it up
    to date. Raises ValueError where there is no study, or where `target` is one with checkpoints; OutputError,
    StorageError.
    """
    study = Study(folder)
    if target.resolve() == folder.resolve():
        raise ValueError(f"{target} is the study itself: expected another folder to publish it in")
    if next(target.rglob("checkpoint*.safetensors"), None) is not None:
        raise ValueError(f"{target} holds checkpoints: expected a new folder, or one that --publish wrote")
    prepare_folder(target)
    config = study.config.model_copy(update={"data": study.config.data.model_copy(update={"folder": None})})
    write_whole(target / "config.toml", config.toml().encode())
    sessions = (read_json(folder / "environment.json") or {}).get("sessions", [])
    for session in sessions:
        session["command"], session["platform"] = portable(session["command"]), without_kernel(session["platform"])
    write_whole(target / "environment.json", (json.dumps({"sessions": sessions}, indent=1) + "\n").encode())
    for task in plan.tasks(study.config):
        _copy(study.workspace.folder(task), target / "runs" / task.name)
        # of a CNN that is not at its end others could not go on: they would train it again, and its snapshots with it
        if task.is_cnn and study.workspace.result(task) is not None:
            _copy_snapshots(study.workspace.folder(task) / "snapshots", target / "runs" / task.name / "snapshots")
    return write_report(target, once=True)


def _copy(task: Path, to: Path) -> None:
    """What is kept of one task; metrics up to their last whole line, for the study may be running."""
    for name in _KEPT:
        if (task / name).is_file():
            to.mkdir(parents=True, exist_ok=True)
            content = (task / name).read_bytes()
            if name.endswith(".jsonl"):
                content = content[: content.rfind(b"\n") + 1]
            write_whole(to / name, content)


def _copy_snapshots(folder: Path, to: Path) -> None:
    for snapshot in sorted(folder.glob("epoch-*.safetensors")):
        if snapshot.stat().st_size <= _SNAPSHOT_BYTES:
            to.mkdir(parents=True, exist_ok=True)
            write_whole(to / snapshot.name, snapshot.read_bytes())
