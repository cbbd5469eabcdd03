"""The demonstration: a study like any other, with a configuration of its own that two cores finish in minutes."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from efcn_kernels.study.config import Config, ConfigError, load
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.worker import LOCK
from efcn_kernels.study.run.workspace import Workspace

CONFIG = Path(__file__).with_name("demo.toml")
PAGE = Path("report") / "index.html"
# does it run? a tenth of the steps
_QUICK = ("data.train_images=1000", "data.test_images=400", "relax.times=[1, 2, 3]")
_QUICK_EPOCHS = 2


def demo_config(
    *,
    data: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    quick: bool = False,
) -> Config:
    """The configuration in demo.toml, with what is given in the place of its own.

    data, data_dir: name and folder of the images. epochs: after each relaxation. seed: of the initial weights. quick: a few epochs on a few images.
    Raises ConfigError, which names what cannot be.
    """
    epochs = _QUICK_EPOCHS if quick and epochs is None else epochs
    named = {"data.name": data, "data.folder": None if data_dir is None else str(data_dir), "relax.epochs": epochs}
    wanted = [*(_QUICK if quick else ()), *(f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None)]
    if seed is not None:
        wanted.append(f"run.seeds=[{seed}]")
    config = load(CONFIG, wanted)
    # the CNN that is never stopped is compared with them at their end
    return load(CONFIG, [*wanted, f"cnn.epochs={config.times[-1] + config.relax.epochs}"])


def demo_folder(wanted: Path, config: Config) -> tuple[Path, bool]:
    """The first of `wanted`, `wanted`-2, `wanted`-3, ... that is free or holds a beginning of this demo, and whether it does."""
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if _free(folder):
            return folder, False
        if _begun(folder, config):
            return folder, True
    raise AssertionError("there is always another number")


def _free(folder: Path) -> bool:
    # what is no folder cannot be written to, which will be said
    return not folder.is_dir() or {path.name for path in folder.iterdir()} <= {LOCK}


def _begun(folder: Path, config: Config) -> bool:
    """Whether the folder holds this demo and something of it is left to do."""
    try:
        there = load(folder / "config.toml")
    except ConfigError:
        return False
    workspace = Workspace(folder, config)
    return there == config and not ((folder / PAGE).is_file() and all(workspace.done(task) for task in plan.tasks(config)))
