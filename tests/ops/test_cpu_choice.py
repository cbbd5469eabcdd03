"""Which kernels run on which machine, found out without that machine; and that nothing of an instruction set runs before it is chosen."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "csrc" / "cpu"
COMPILER = shutil.which("g++")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile with"),
    pytest.mark.skipif(not KERNELS.is_dir(), reason="the sources are not part of an installed package"),
]
X86 = platform.machine().lower() in ("x86_64", "amd64")
on_x86 = pytest.mark.skipif(not X86, reason="its instruction sets are those of x86-64")


def compiled(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMPILER), "-std=c++17", "-O0", "-Wall", "-Wextra", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library's choice, with features by name and tables without kernels."""
    target = tmp_path_factory.mktemp("choice") / "chosen"
    done = compiled(KERNELS / "dispatch.cpp", ROOT / "tests/support/cpu/chosen.cpp", "-o", target)
    assert done.returncode == 0, done.stderr
    return target


def chosen(program: Path, features: str, **wishes: str) -> str:
    """Instruction sets that are there, the one in use, its tuning, and the kernels of float32, float64 and bfloat16 (see chosen.cpp)."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EFCN_")} | wishes
    done = subprocess.run([program, *features.split()], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"choosing ended with {done.returncode}: {done.stderr}"
    return done.stdout.strip()


OLD, ZEN3, SKYLAKE, COOPER = "", "avx2 by_amd", "avx2 avx512", "avx2 avx512 avx512_bf16"
ZEN4, SAPPHIRE = f"{COOPER} by_amd", f"{COOPER} amx"


@on_x86
@pytest.mark.parametrize(
    ("machine", "takes"),
    [
        (OLD, "base base copied 111"),
        (ZEN3, "base,avx2 avx2 copied 111"),
        (SKYLAKE, "base,avx2,avx512 avx512 copied 111"),
        # the dot products are there, but slower than what converts
        (COOPER, "base,avx2,avx512,avx512_bf16 avx512 copied 111"),
        (ZEN4, "base,avx2,avx512,avx512_bf16 avx512_bf16 in_place 223"),
        (SAPPHIRE, "base,avx2,avx512,avx512_bf16,amx amx copied 114"),
    ],
)
def test_what_a_machine_takes(program: Path, machine: str, takes: str) -> None:
    assert chosen(program, machine) == takes


@on_x86
@pytest.mark.parametrize(
    ("machine", "isa", "tuning", "takes"),
    [
        (ZEN3, "base", "", "base copied 111"),
        (ZEN3, "", "in_place", "avx2 in_place 222"),
        (ZEN4, "avx2", "", "avx2 copied 111"),
        (ZEN4, "avx512", "", "avx512 in_place 222"),
        (ZEN4, "", "copied", "avx512_bf16 copied 113"),
        (SAPPHIRE, "avx512_bf16", "", "avx512_bf16 copied 113"),
        (SAPPHIRE, "", "in_place", "amx in_place 224"),
        (SAPPHIRE, "avx512", "in_place", "avx512 in_place 222"),
    ],
)
def test_the_axes_are_apart(program: Path, machine: str, isa: str, tuning: str, takes: str) -> None:
    assert chosen(program, machine, EFCN_CPU_ISA=isa, EFCN_CPU_TUNING=tuning).partition(" ")[2] == takes


@on_x86
def test_what_is_not_there_is_refused(program: Path) -> None:
    says = "EFCN_CPU_ISA asks for the instruction set 'avx512', but this CPU and this build have only: base,avx2"
    assert chosen(program, ZEN3, EFCN_CPU_ISA="avx512", EFCN_CPU_TUNING="in_place") == says
    says = "EFCN_CPU_TUNING asks for the tuning 'sideways', but there are only: copied,in_place"
    assert chosen(program, ZEN3, EFCN_CPU_TUNING="sideways") == says


@cache
def isa_flags() -> dict[str, list[str]]:
    """ISA_FLAGS of setup.py, which cannot be imported without building."""
    found: dict[str, Any] = {}
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("AVX512", "ISA_FLAGS"):
            exec(compile(ast.Module([node], []), "setup.py", "exec"), found)
    flags: dict[str, list[str]] = found["ISA_FLAGS"]
    return flags


def visible(target: Path) -> list[tuple[str, str]]:
    """(kind, name) of what an object defines and other files see."""
    listing = subprocess.run(["nm", "-C", "--defined-only", target], capture_output=True, text=True, timeout=60, check=True).stdout
    found = [line.split(maxsplit=2)[1:] for line in listing.splitlines()]
    # what unwinding finds its routine by is shared by all files, and is no code
    return [(kind, name) for kind, name in found if (not kind.islower() or kind in "uvw") and not name.startswith("DW.ref.")]


def started_by_itself(target: Path) -> list[str]:
    """Sections of code that runs when the library is loaded."""
    listing = subprocess.run(["readelf", "-SW", target], capture_output=True, text=True, timeout=60, check=True).stdout
    return [name for name in re.findall(r"\] (\S+)", listing) if name.startswith((".init", ".ctors", ".preinit", ".text.startup"))]


@pytest.mark.skipif(shutil.which("readelf") is None, reason="there are no binutils to look into objects with")
@pytest.mark.parametrize("source", ["isa_base.cpp", *(sorted(isa_flags()) if X86 and KERNELS.is_dir() else [])])
def test_nothing_of_an_instruction_set_runs_or_is_shared_unasked(source: str, tmp_path: Path) -> None:
    """A table is data. All else belongs to the file's own namespace: a function that two files share is the linker's choice of either."""
    target = tmp_path / "isa.o"
    # without optimisation, for no function to vanish into its callers
    done = compiled("-fvisibility=hidden", *isa_flags().get(source, []), "-c", KERNELS / source, "-o", target)
    assert done.returncode == 0, done.stderr
    assert started_by_itself(target) == []
    names = set(re.findall(r"EFCN_ISA (isa_\w+)", (KERNELS / source).read_text()))
    outside = [(kind, name) for kind, name in visible(target) if not any(f"efcn::{isa}::" in name for isa in names)]
    assert [name for _, name in outside] == [f"efcn::{'pairs' if source in ('isa_avx512_bf16.cpp', 'isa_amx.cpp') else 'kernels'}_{source[4:-4]}"]
    assert outside[0][0] in "DR", "the table is no constant data"


def test_what_runs_unasked_would_be_seen(tmp_path: Path) -> None:
    source, target = tmp_path / "wrong.cpp", tmp_path / "wrong.o"
    source.write_text("int ask(); int answer = ask(); inline int shared() { return 1; } int call() { return shared(); }")
    assert compiled("-c", source, "-o", target).returncode == 0
    assert started_by_itself(target)
    assert {name for _, name in visible(target)} == {"answer", "shared()", "call()"}


@pytest.mark.parametrize(("stored", "is_known"), [("float", True), ("efcn::bf16", True), ("long", False), ("unsigned short", False)])
def test_an_unknown_type_does_not_compile(stored: str, is_known: bool, tmp_path: Path) -> None:
    source = tmp_path / "type.cpp"
    source.write_text(f'#include "{KERNELS}/dtype.h"\nefcn::Compute<{stored}> number;\n')
    done = compiled("-fsyntax-only", source)
    assert (done.returncode == 0) == is_known, done.stderr
    assert is_known or "ComputeOf" in done.stderr
