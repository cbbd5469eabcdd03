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

from tests.support.aot import CHIPS, DTYPES, ODD, OPS, VECTORS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


# NVIDIA's assembler spills a few registers of its own will, below the most that a thread may have, to fit another block on a multiprocessor
REGISTERS, FEW = 255, 16
# a step of SGD loads weights, momenta and a mask beside the sums: it may spill some registers, once a tile, after the loop
STEP = 160


def compiled(chip: str, which: str, *dtypes: str) -> list[dict[str, Any]]:
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "tests.support.aot", chip, which, *dtypes]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def unit(chip: str, dtype: str, block_m: int) -> str:
    """What is to multiply: the matrix unit, but for IEEE float32, which NVIDIA's has not."""
    if chip == "gfx942":
        return "v_mfma"
    if dtype in ("ieee", "float64"):
        return {"ieee": "FFMA", "float64": "DMMA"}[dtype]
    return "HGMMA" if chip == "sm_90" and block_m >= 64 else "HMMA"


def in_vectors(found: dict[str, Any], chip: str) -> bool:
    """Whether operands arrive 16 bytes at a time; indices are single numbers, a few in each stage."""
    loads, stages = found["loads"], found["config"][-1]
    if chip == "gfx942":
        return bool(loads.get("global_load_dwordx4", 0) + loads.get("buffer_load_dwordx4", 0))
    # Hopper multiplies TF32 only as it lies along the sum, so what lies across is transposed on its way, number by number
    across = chip == "sm_90" and found["dtype"] == "tf32"
    return across or bool(loads.get("LDGSTS.E.BYPASS.128", 0) > 0 and loads.get("LDGSTS.E", 0) <= 4 * stages)


def faults(found: dict[str, Any], chip: str) -> list[str]:
    """What is wrong with one kernel."""
    wanted = unit(chip, found["dtype"], found["config"][0])
    allowed = STEP if found["op"] == "bsr_linear_backward_weight_sgd" else FEW if chip != "gfx942" and found["registers"] < REGISTERS else 0
    tests = {
        f"{found['spills']} spills": found["spills"] <= allowed,
        f"{found['shared']} bytes of shared memory": found["shared"] <= CHIPS[chip][1],
        f"multiplies by {found['matrix']}, not {wanted}": found["matrix"] == wanted,
        f"loads {found['loads']}": found["problem"] not in map(list, VECTORS) or in_vectors(found, chip),
    }
    name = " ".join(str(found[key]) for key in ("op", "dtype", "problem", "config"))
    return [f"{name}: {fault}" for fault, right in tests.items() if not right]


@pytest.mark.parametrize("chip", list(CHIPS))
def test_first_choices_for_whole_vectors(chip: str) -> None:
    kernels = compiled(chip, "first", *DTYPES)
    assert len(kernels) == len(DTYPES) * len(VECTORS) * len(OPS)
    assert not [fault for found in kernels for fault in faults(found, chip)]


@pytest.mark.aot
@pytest.mark.parametrize("chip", list(CHIPS))
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_every_configuration(dtype: str, chip: str) -> None:
    kernels = compiled(chip, "all", dtype)
    assert len(kernels) > len(OPS) * len(VECTORS + ODD)
    assert not [fault for found in kernels for fault in faults(found, chip)]


def test_the_gates_can_fail() -> None:
    right: dict[str, Any] = {"op": "bsr_linear", "dtype": "bfloat16", "problem": list(VECTORS[0]), "config": [128, 64, 64, 4, 4]}
    right |= {"registers": 255, "shared": 49156, "spills": 0, "matrix": "HGMMA", "loads": {"LDG.E": 2, "LDGSTS.E": 3, "LDGSTS.E.BYPASS.128": 24}}
    assert not faults(right, "sm_90")
    for wrong in (
        {"spills": 1},
        {"registers": 128, "spills": 17},
        {"shared": 240_000},
        {"matrix": "HMMA"},
        {"loads": {"LDGSTS.E": 27}},
        {"loads": {"LDG.E.U16": 24}},
    ):
        assert len(faults(right | wrong, "sm_90")) == 1
