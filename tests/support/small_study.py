"""A study small enough to be repeated often, and what tests compare of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from efcn_kernels.study.config import Config
from efcn_kernels.study.models import small_cnn
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.storage import load_tensors
from efcn_kernels.study.run.worker import run_task
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train import setting
from efcn_kernels.study.train.stopping import stopping

BASE: dict[str, Any] = {
    "data": {"name": "fashion-mnist-small", "train_images": 160, "test_images": 60},
    "network": {"name": "small"},
    "cnn": {"epochs": 3, "batch_size": 30, "momentum": 0.5},
    "relax": {
        "times": (1,),
        "followers": ("halo-1",),
        "controls": (),
        "epochs": 3,
        "learning_rate": 0.05,
        "momentum": 0.5,
        "off_local_learning_rate": 0.1,
        "off_local_start": 0.01,
        "optimizer_state": "carry",
    },
    "measure": {"every": 1, "singular_values": 0, "paths": "none"},
    "run": {"device": "cpu", "threads": 1, "checkpoint_seconds": 0.0},
}

# of "relax": nothing that has off-local weights
ONLY_LOCAL: dict[str, Any] = {"followers": ("eLCN",), "off_local_learning_rate": None, "off_local_start": 0.0}


def config(**sections: dict[str, Any]) -> Config:
    """The small study with some values changed."""
    return Config.model_validate({name: BASE[name] | sections.get(name, {}) for name in BASE})


EVERYTHING = config(
    cnn={"epochs": 2},
    relax={"followers": ("eLCN", "halo-1", "eFCN"), "controls": ("CNN", "FCN", "FCN-norms"), "epochs": 1, "momentum": 0.0, "off_local_start": 0.0},
    measure={"singular_values": 2, "paths": "middle", "path_images": 60, "string_steps": 1},
    run={"checkpoint_seconds": 60.0, "processes": 2},
)


def dropping(channels: int, size: int | tuple[int, int], classes: int) -> nn.Sequential:
    """The small CNN with dropout, so that random numbers matter in every step."""
    network = small_cnn(channels, size, classes)
    head = network.pop(-1)
    return network.append(nn.Dropout(0.3)).append(head)


def work(root: Path, wanted: Config) -> None:
    """Every task that is left, in this process."""
    torch.set_num_threads(1)
    setting._MODELS["small"] = dropping
    workspace = Workspace(root, wanted)
    workspace.open()
    with stopping() as stop:
        shared = setting.Setting.of(wanted)
        for task in plan.tasks(wanted):
            if not workspace.done(task):
                run_task(task, workspace, shared, stop)


def bits(root: Path) -> dict[str, Any]:
    """All that a study leaves, but for times: final states, snapshots, metrics, results, heat maps, answers."""
    found: dict[str, Any] = {}
    for path in sorted((root / "runs").rglob("*")):
        name = str(path.relative_to(root))
        if path.name == "checkpoint.safetensors" or path.parent.name == "snapshots":
            tensors, facts = load_tensors(path)
            # where metrics ended in bytes depends on how times are written
            found[name] = {key: value.tolist() for key, value in tensors.items()} | {"epoch": facts.get("epoch")}
        elif path.name == "metrics.jsonl":
            found[name] = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        elif path.name in ("result.json", "task.json"):
            found[name] = json.loads(path.read_text())
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: value.tolist() for key, value in arrays.items()}
    return found
