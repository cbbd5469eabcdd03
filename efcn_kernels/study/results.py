"""Where results go, and what is noted of the machine and the command that made them."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_OF_MACHINE = ("--out", "--ray")
_FOLDER = "data.folder"
# an absolute path, alone or after an equals sign
_PATH = re.compile(r"(^|=)((?:~[^/]*)?/.*)")


class OutputError(OSError):
    """The output folder cannot be written."""


def prepare_folder(folder: str | os.PathLike[str]) -> Path:
    """Create `folder` if need be and prove by a trial file that it can be written. Raises OutputError."""
    path = Path(folder).expanduser()
    trial = path / f".writable-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to the output folder {path}: {error.strerror}; choose another one") from error
    return path


def environment() -> dict[str, Any]:
    """Versions and machine, as far as they matter to numbers and times."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in ("efcn-kernels", "torch", "numpy", "matplotlib", "triton")},
        "platform": without_kernel(platform.platform()),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def without_kernel(name: str) -> str:
    """A name of `platform.platform` less the kernel's release, which may tell whose machine it is and matters to no number."""
    system, *_ = name.split("-")
    front, libc, back = name.partition("-with-")
    return f"{system}-{front.rsplit('-', 1)[-1]}{libc}{back}"


def portable(command: Sequence[str]) -> list[str]:
    """A command's arguments without what only its own machine knows: where results and images lie, the cluster, folders before a file's name."""
    left, kept = list(command), []
    while left:
        word, *left = left
        name, equals, _ = word.partition("=")
        if name in _OF_MACHINE:
            left = left if equals else left[1:]
        elif word == "--set" and left and left[0].startswith(_FOLDER):
            left = left[1:]
        elif not word.startswith(f"--set={_FOLDER}"):
            kept.append(_PATH.sub(lambda found: found[1] + Path(found[2]).name, word))
    return kept


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; Linux keeps it where `platform` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
