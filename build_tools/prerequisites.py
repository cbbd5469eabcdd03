"""What a build needs, looked for before anything is compiled. What is missing ends it with one sentence that says what to install."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

# by itself: importing the package would import torch
VERSIONS = runpy.run_path(str(Path(__file__).parent.parent / "efcn_kernels/versions.py"))
OLDEST = "{}.{}".format(*VERSIONS["OLDEST_TORCH"])
# torch's own file that a build starts from
HEADER = "include/torch/csrc/stable/library.h"


def torch_folders() -> list[Path]:
    """Where the torch package may be: the importable one first, then (isolated builds) those of the target environment."""
    folders = []
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent)
    folders += [Path(sysconfig.get_path(kind)) / "torch" for kind in ("purelib", "platlib")]
    # an isolated build runs with the environment's own interpreter but replaces the paths that sysconfig reports
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return list(dict.fromkeys([*folders, Path(sys.prefix) / "lib" / version / "site-packages" / "torch"]))


def find_torch(folders: Iterable[Path]) -> Path:
    """The first folder with a torch to compile against."""
    looked = []
    for folder in folders:
        file = folder / "version.py"
        found = re.search(r"__version__ = ['\"]([^'\"]+)", file.read_text()) if file.is_file() else None
        if found is None:
            looked.append(f"nothing in {folder}")
        elif VERSIONS["refused"](found[1]) is not None:
            looked.append(f"version {found[1]} in {folder}")
        elif not (folder / HEADER).is_file():
            looked.append(f"version {found[1]} without {HEADER} in {folder}")
        else:
            if (note := VERSIONS["untested"](found[1])) is not None:
                print(f"note: {note}", flush=True)
            return folder
    raise SystemExit(
        f"efcn_kernels compiles against the torch that it will run with, and found no torch {OLDEST} or newer ({', '.join(looked)}): "
        f"run `pip install 'torch>={OLDEST}'` first (a CPU build suffices), then install efcn_kernels again"
    )


def find_pybind11() -> Path:
    """The folder of pybind11's headers."""
    if importlib.util.find_spec("pybind11") is None:
        raise SystemExit("efcn_kernels needs pybind11 to build, and it is not installed: run `pip install pybind11` first")
    import pybind11

    return Path(pybind11.get_include())


def check_compiler(environment: Mapping[str, str] = os.environ, include: Path | None = None) -> None:
    """That there is a C++ compiler, and Python's headers in `include`, by default those of this Python."""
    command = shlex.split(environment.get("CXX") or sysconfig.get_config_var("CXX") or "c++")[0]
    if shutil.which(command) is None:
        raise SystemExit(
            f"efcn_kernels needs a C++17 compiler, and there is no {command!r}: install one (Debian, Ubuntu: apt install g++), "
            "or set CXX to the one to use"
        )
    header = (include or Path(sysconfig.get_path("include"))) / "Python.h"
    if not header.is_file():
        raise SystemExit(f"efcn_kernels needs Python's headers, and there is no {header}: install them (Debian, Ubuntu: apt install python3-dev)")
