"""Gates on what the compilers make of the Triton kernels for three chips: see aot.py. `make aot` compiles every configuration, `make test` the
first choice for layers of whole vectors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .aot import CHIPS, DTYPES, VECTORS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def compiled(chip: str, dtype: str, which: str) -> list[dict[str, Any]]:
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "tests.aot", chip, dtype, which]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def unit(chip: str, dtype: str, block_m: int) -> str:
    """What is to multiply: the matrix unit, but for IEEE float32, which NVIDIA's has not."""
    if chip == "gfx942":
        return "v_mfma"
    if dtype in ("ieee", "float64"):
        return {"ieee": "FFMA", "float64": "DMMA"}[dtype]
    return "HGMMA" if chip == "sm_90" and block_m >= 64 else "HMMA"


def in_vectors(found: dict[str, Any], chip: str, dtype: str) -> bool:
    """Whether operands arrive 16 bytes at a time; indices are single numbers, a few in each stage."""
    loads, stages = found["loads"], found["config"][-1]
    if chip == "gfx942":
        return bool(loads.get("global_load_dwordx4", 0) + loads.get("buffer_load_dwordx4", 0))
    # Hopper multiplies TF32 only as it lies along the sum, so what lies across is transposed on its way, number by number
    across = chip == "sm_90" and dtype == "tf32"
    return across or (loads.get("LDGSTS.E.BYPASS.128", 0) > 0 and loads.get("LDGSTS.E", 0) <= 4 * stages)


def faults(found: dict[str, Any], chip: str, dtype: str) -> list[str]:
    """What is wrong with one kernel."""
    wanted = unit(chip, dtype, found["config"][0])
    tests = {
        f"{found['spills']} spills": found["spills"] == 0,
        f"{found['shared']} bytes of shared memory": found["shared"] <= CHIPS[chip][1],
        f"multiplies by {found['matrix']}, not {wanted}": found["matrix"] == wanted,
        f"loads {found['loads']}": found["problem"] not in map(list, VECTORS) or in_vectors(found, chip, dtype),
    }
    return [f"{found['op']} {found['problem']} {found['config']}: {fault}" for fault, right in tests.items() if not right]


@pytest.mark.parametrize("which", ["first", pytest.param("all", marks=pytest.mark.aot)])
@pytest.mark.parametrize("chip", list(CHIPS))
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_no_kernel_has_a_fault(dtype: str, chip: str, which: str) -> None:
    kernels = compiled(chip, dtype, which)
    assert len(kernels) >= 8
    assert not [fault for found in kernels for fault in faults(found, chip, dtype)]


def test_the_gates_can_fail() -> None:
    right = {"op": "bsr_linear", "problem": list(VECTORS[0]), "config": [128, 64, 64, 4, 4], "shared": 49156, "spills": 0, "matrix": "HGMMA"}
    right["loads"] = {"LDG.E": 2, "LDGSTS.E": 3, "LDGSTS.E.BYPASS.128": 24}
    assert not faults(right, "sm_90", "bfloat16")
    for wrong in ({"spills": 1}, {"shared": 240_000}, {"matrix": "HMMA"}, {"loads": {"LDGSTS.E": 27}}, {"loads": {"LDG.E.U16": 24}}):
        assert len(faults(right | wrong, "sm_90", "bfloat16")) == 1
