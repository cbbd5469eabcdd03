"""Small image sets in every published layout, written to a temporary folder, and one finished study."""

import gzip
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from efcn_kernels.study.data.sets import ImageData, MissingDataError, load
from efcn_kernels.study.run.scheduler import run_study
from efcn_kernels.study.run.workspace import Workspace
from tests.support.image_files import TEST, TRAIN, cifar_arrays, idx_bytes
from tests.support.small_study import EVERYTHING

CIFAR10_STEMS = [f"data_batch_{i}" for i in range(1, 6)]


@pytest.fixture(autouse=True)
def _no_outside_data(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither the user's cache nor the folder of real files may leak into a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("EFCN_DATA", raising=False)


# read before the fixture above hides it
_REAL = os.environ.get("EFCN_DATA")


@pytest.fixture
def published() -> Callable[[str], ImageData]:
    """A published set by its name, where EFCN_DATA has it."""

    def find(name: str) -> ImageData:
        if not _REAL:
            pytest.skip("EFCN_DATA names no folder with the published files")
        try:
            return load(name, Path(_REAL), download=False)
        except MissingDataError as error:
            pytest.skip(f"EFCN_DATA does not have it: {error}")

    return find


@pytest.fixture
def write_idx() -> Callable[..., dict[str, np.ndarray]]:
    """Write a small set of idx files and return their arrays by file name."""

    def write(folder: Path, *, zipped: bool = True, joint: str = "-", labels_below: int = 10) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for stem, count in (("train", TRAIN), ("t10k", TEST)):
            arrays[f"{stem}-images{joint}idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{stem}-labels{joint}idx1-ubyte"] = rng.integers(0, labels_below, count, dtype=np.uint8)
        for name, array in arrays.items():
            content = idx_bytes(array)
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
        return arrays

    return write


@pytest.fixture
def write_cifar() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Write a small CIFAR set; returns the pixels and labels of its training part in order."""

    def write(folder: Path, classes: int, layout: str, protocol: int = 2) -> tuple[np.ndarray, np.ndarray]:
        folder.mkdir(parents=True, exist_ok=True)
        train, test = (CIFAR10_STEMS, "test_batch") if classes == 10 else (["train"], "test")
        parts = {stem: cifar_arrays(i, 3, classes) for i, stem in enumerate([*train, test])}
        for stem, (pixels, labels) in parts.items():
            if layout == "binary":
                columns = [labels[:, None], pixels] if classes == 10 else [labels[:, None] // 5, labels[:, None], pixels]
                (folder / f"{stem}.bin").write_bytes(np.concatenate(columns, axis=1).tobytes())
            else:
                key = b"labels" if classes == 10 else b"fine_labels"
                content = {b"data": pixels, key: labels.tolist(), b"filenames": [b"a.png"] * 3, b"batch_label": b"one"}
                (folder / stem).write_bytes(pickle.dumps(content, protocol=protocol))
        return np.concatenate([parts[s][0] for s in train]), np.concatenate([parts[s][1] for s in train])

    return write


@pytest.fixture(scope="session")
def embedded() -> ImageData:
    """The set inside the package."""
    return load("fashion-mnist-small")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study with a task of every kind, done by two processes and told line by line, for all tests that only read it."""
    folder: Path = tmp_path_factory.mktemp("study")
    return run_study(EVERYTHING, folder, Console(file=io.StringIO()))
