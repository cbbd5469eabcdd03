"""One finished study with a task of every kind, for all tests that only read it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from efcn_kernels.study.run.scheduler import run_study
from efcn_kernels.study.run.workspace import Workspace
from tests.support.small_study import EVERYTHING


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Done by two processes, told line by line."""
    folder: Path = tmp_path_factory.mktemp("study")
    return run_study(EVERYTHING, folder, Console(file=io.StringIO()))
