"""Without the extra `study`: what needs it says so in one line, all else works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from efcn_kernels import analysis, extras

ROOT = Path(__file__).parents[2]
# a newer typer brings pydantic and does not run without it
HIDDEN = [name for name in extras.STUDY if not any(line.startswith(name) for line in requires("typer") or ())]

# hides what the extra brings, runs commands that come on stdin and prints [code, stdout, stderr] of each
WITHOUT = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{name} is hidden")

HIDDEN, commands = json.load(sys.stdin)
sys.meta_path.insert(0, Blocked())
from typer.testing import CliRunner
from efcn_kernels.cli import app
results = [CliRunner().invoke(app, words, env={"COLUMNS": "200", "TERM": "dumb"}) for words in commands]
print(json.dumps([[found.exit_code, found.stdout, found.stderr] for found in results]))
"""


@pytest.fixture(scope="module")
def without() -> dict[str, tuple[int, str, str]]:
    """Code, stdout and stderr of each command in a process that finds nothing of the extra."""
    report = ["bench-report", "benchmarks/results/cpu-table.json"]
    commands = [["info"], ["verify", "--geometry", "1->1 k3", "--backend", "reference"], ["bench", "--list"], report]
    commands += [["demo"], ["relax", "x.toml"], ["report", "x"], [*report, "--figures", "x"]]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input=json.dumps([HIDDEN, commands]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    names = ["info", "verify", "bench", "bench-report", "demo", "relax", "report", "bench-report --figures"]
    return {name: (code, out, error) for name, (code, out, error) in zip(names, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("name", ["info", "verify", "bench", "bench-report"])
def test_what_needs_no_extra_works(without: dict[str, tuple[int, str, str]], name: str) -> None:
    code, out, error = without[name]
    # an older rich ends a bar that it does not show with an empty line
    assert (code, error.strip()) == (0, ""), error
    assert out


@pytest.mark.parametrize(("name", "lacks"), [("demo", HIDDEN), ("relax", HIDDEN), ("report", HIDDEN), ("bench-report --figures", ["matplotlib"])])
def test_what_needs_it_says_what_to_install(without: dict[str, tuple[int, str, str]], name: str, lacks: list[str]) -> None:
    code, out, error = without[name]
    are = "is" if len(lacks) == 1 else "are"
    assert (code, out) == (2, "")
    assert error == f"efcn: efcn {name} needs {', '.join(lacks)}, which {are} not installed: pip install 'efcn_kernels[study]'\n"


def test_info_lists_it(without: dict[str, tuple[int, str, str]]) -> None:
    said = f"missing: {', '.join(HIDDEN)}; pip install 'efcn_kernels[study]'"
    assert re.search(rf"extra study +{re.escape(said)}", without["info"][1])


def test_spectra_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "missing", lambda names: list(names))
    with pytest.raises(ImportError, match=r"singular_values needs scipy, which is not installed: pip install 'efcn_kernels\[study\]'"):
        analysis.singular_values(None)  # type: ignore[arg-type]


def test_the_list_is_that_of_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r"^study = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert wanted is not None
    names = {name for name in re.findall(r'"([A-Za-z0-9_-]+)', wanted[1]) if name != "tomli" or sys.version_info < (3, 11)}
    assert names == set(extras.STUDY)
    required = re.search(r"^dependencies = \[(.*)\]$", text, re.MULTILINE)
    assert required is not None
    assert re.findall(r'"(\w+)', required[1]) == ["torch", "numpy", "typer", "rich"]
