"""What a build needs is looked for before anything is compiled, and what is missing is one sentence."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from build_tools import prerequisites
from build_tools.prerequisites import HEADER, check_compiler, find_pybind11, find_torch, torch_folders

ROOT = Path(__file__).parents[2]


def a_torch(folder: Path, version: str, *, header: bool = True) -> Path:
    """A folder that looks like torch of this version."""
    (folder / HEADER).parent.mkdir(parents=True)
    if header:
        (folder / HEADER).touch()
    (folder / "version.py").write_text(f"__all__ = []\n__version__ = '{version}'\n")
    return folder


def test_the_first_torch_that_serves_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / "nothing", a_torch(tmp_path / "old", "1.13.1"), a_torch(tmp_path / "bare", "2.11.0", header=False)]
    good, newer = a_torch(tmp_path / "good", "2.12.0+cpu"), a_torch(tmp_path / "newer", "2.99.0")
    assert find_torch([*folders, good, newer]) == good
    assert capsys.readouterr().out == ""
    # nobody has tried it, and nothing speaks against it
    assert find_torch([newer]) == newer
    assert "is tested with torch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        find_torch(folders)
    says = str(caught.value)
    for part in (f"nothing in {folders[0]}", f"version 1.13.1 in {folders[1]}", f"version 2.11.0 without {HEADER}", "pip install 'torch>=2.11'"):
        assert part in says
    assert "\n" not in says


def test_the_torch_of_the_tests_is_found() -> None:
    import torch

    assert find_torch(torch_folders()) == Path(torch.__file__).parent


def test_a_missing_compiler_pybind11_or_header_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"C\+\+17 compiler, and there is no 'nocxx': install one .*CXX"):
        check_compiler({"CXX": "nocxx -pthread"})
    with pytest.raises(SystemExit, match=rf"no {re.escape(str(tmp_path / 'Python.h'))}: install them .*python3-dev"):
        check_compiler({"CXX": sys.executable}, tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="pybind11 to build, and it is not installed: run `pip install pybind11` first"):
        find_pybind11()


def test_nothing_is_compiled_before_all_is_there(tmp_path: Path) -> None:
    """A build without pybind11: this Python's own packages are there, pybind11 is hidden."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name, *more: None if name == 'pybind11' else find(name, *more)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", "build", "--build-base", str(tmp_path / "build")],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("efcn_kernels needs pybind11")
    assert not list(tmp_path.rglob("*.o"))


def test_the_stable_abi_is_that_of_the_oldest_torch() -> None:
    assert prerequisites.OLDEST == "2.11"
    assert "{:02x}{:02x}".format(*prerequisites.VERSIONS["OLDEST_TORCH"]) == "020b"
