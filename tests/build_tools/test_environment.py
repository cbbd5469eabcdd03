"""Which torch the environment of `make` gets, with stand-ins for the interpreters; .ci/environments tries real ones."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_tools import environment
from build_tools.environment import LINK, make, torch_of, unsupported

Torch = tuple[str, list[str]] | None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[list[str]]]:
    """What the new environment and PYTHON have; comes back as the list of the commands that will be run."""

    def build(own: Torch, python: Torch, installed: Torch = None, code: int = 0) -> list[list[str]]:
        ran: list[list[str]] = []

        def create(folder: Path, **_: Any) -> None:
            (folder / sysconfig.get_path("purelib", "posix_prefix", {"base": "."})).mkdir(parents=True)

        def asked(interpreter: str | Path) -> Torch:
            if str(interpreter) == "PYTHON":
                return python
            if ran:
                return installed
            return python if list(tmp_path.rglob(LINK)) else own

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            ran.append(command)
            return subprocess.CompletedProcess(command, code)

        monkeypatch.setattr(venv, "create", create)
        monkeypatch.setattr(environment, "torch_of", asked)
        monkeypatch.setattr(subprocess, "run", run)
        return ran

    return build


def test_a_torch_that_the_new_environment_sees_is_taken(world: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    ran = world(("2.12.0", []), None)
    assert make(tmp_path / "e", ["torch"], "PYTHON") == f"{tmp_path / 'e'} has torch 2.12.0"
    assert not ran


def test_that_of_python_is_linked(world: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    ran = world(None, ("2.99.0+cu140", ["/a/site-packages", "/b/dist-packages"]))
    assert make(tmp_path / "e", ["torch"], "PYTHON") == f"{tmp_path / 'e'} has torch 2.99.0+cu140, that of PYTHON"
    (link,) = tmp_path.rglob(LINK)
    assert link.read_text() == "/a/site-packages\n/b/dist-packages\n"
    assert not ran


@pytest.mark.parametrize("python", [None, ("1.13.1", ["/old/site-packages"])])
def test_where_there_is_none_that_serves_one_is_installed(
    world: Callable[..., list[list[str]]], tmp_path: Path, python: Torch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = world(None, python, ("2.13.0+cpu", []))
    assert make(tmp_path / "e", ["torch==2.13.0", "--some-option"], "PYTHON") == f"{tmp_path / 'e'} has torch 2.13.0+cpu"
    assert [command[-2:] for command in ran] == [["torch==2.13.0", "--some-option"]]
    assert not list(tmp_path.rglob(LINK))
    said = capsys.readouterr().out
    refused = "not using the torch of PYTHON: efcn_kernels needs torch 2.11 or newer, and this is torch 1.13.1\n"
    assert said == (refused if python else "") + f"installing torch==2.13.0 --some-option into {tmp_path / 'e'}\n"


def test_what_cannot_be_installed_is_one_line(world: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    world(None, None, None, code=1)
    with pytest.raises(SystemExit, match=r"pip could not install nonsense: see above; make TORCH=\.\.\. installs another one"):
        make(tmp_path / "e", ["nonsense"], "PYTHON")
    # installed, and still of no use
    world(None, None, ("2.2.0", []))
    with pytest.raises(SystemExit, match=r"no torch that efcn_kernels can use, after installing torch==2\.2\.0: make TORCH="):
        make(tmp_path / "f", ["torch==2.2.0"], "PYTHON")


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SystemExit, match=r"needs Python 99\.0 or newer, and PYTHON is 3\."):
        make(tmp_path / "e", ["torch"], "PYTHON")


def test_real_interpreters_are_asked(tmp_path: Path) -> None:
    import torch

    found = torch_of(sys.executable)
    assert found is not None
    assert found[0] == torch.__version__
    assert str(Path(torch.__file__).parents[1]) in found[1]
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    assert torch_of(bare) is None
    assert unsupported("2.13.0") is None
