"""The range of torch versions, in one place, and what is said outside of it."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from efcn_kernels import versions

ROOT = Path(__file__).parent.parent


def test_pyproject_has_the_same_lower_bound_and_no_upper_one() -> None:
    (bound,) = re.findall(r'"torch([<>=!~][^"]*)"', (ROOT / "pyproject.toml").read_text())
    assert bound == ">=" + ".".join(map(str, versions.OLDEST_TORCH))


def test_make_installs_a_tested_torch() -> None:
    found = re.search(r"^TORCH \?= torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    assert versions.OLDEST_TORCH <= versions.parsed(found[1]) <= versions.NEWEST_TORCH


@pytest.mark.parametrize("version", ["1.13.1", "2.2.0", "2.10.0+cu130"])
def test_too_old_is_refused(version: str) -> None:
    with pytest.raises(ImportError, match=rf"needs torch 2\.11 or newer, and this is torch {re.escape(version)}: pip install 'torch>=2\.11'"):
        versions.check(version)


@pytest.mark.parametrize("version", ["2.11.0", "2.12.1+cu130", "2.13.0a0+git1234"])
def test_tested_ones_are_quiet(version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        versions.check(version)


@pytest.mark.parametrize("version", ["2.14.1", "3.0.0.dev20270101"])
def test_newer_ones_are_warned_of(version: str) -> None:
    with pytest.warns(UserWarning, match=rf"is tested with torch 2\.11 to 2\.\d+, and this is torch {re.escape(version)}: it should work") as caught:
        versions.check(version)
    assert len(caught) == 1


def test_the_import_says_it_once_and_where() -> None:
    code = "import torch\ntorch.__version__ = '2.99.0'\nimport efcn_kernels\nimport efcn_kernels.bench\nprint(efcn_kernels.EFCNLinear.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "EFCNLinear\n"
    (line,) = [line for line in done.stderr.splitlines() if "torch 2.99.0" in line]
    assert line.startswith("<string>:3: UserWarning: efcn_kernels is tested with torch")
    refused = subprocess.run(
        [sys.executable, "-c", code.replace("2.99.0", "2.10.0")], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert refused.stderr.splitlines()[-1].startswith("ImportError: efcn_kernels needs torch 2.11 or newer, and this is torch 2.10.0")


def test_what_is_no_version_is_repeated() -> None:
    with pytest.raises(ValueError, match="got 'unknown'"):
        versions.check("unknown")


def test_the_torch_of_the_tests_is_in_the_range() -> None:
    assert versions.refused(torch.__version__) is None
