"""The second axis of the CPU kernels: how products read their images. The same bits, whatever is forced."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from efcn_kernels import BlockLayout, build_info
from efcn_kernels.ops.backends import cpu
from tests.support.judge import check_equal, setting
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, random_layout, run_passes
from tests.support.problems import CONV_PATTERNS, DTYPES, OPS, tensors

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not cpu.isas(), reason="the compiled library is missing")


@pytest.fixture(params=cpu.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with cpu.forced_isa(request.param):
        yield request.param


# layouts of short and long reductions (more steps than any chunk has), of narrow blocks, of sites that share a tile
LAYOUTS = {
    "random": random_layout(5, 7, (17, 29), 0.4),
    "narrow": random_layout(6, 5, (13, 3), 0.5),
    "long": BlockLayout.full(2, 24, (25, 64)),
    **{name: BlockLayout.from_conv(geometry, 0) for name, geometry in CONV_PATTERNS.items()},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_tuning_has_the_same_bits(isa: str, name: str, dtype: torch.dtype, threads: None, poisoned: None) -> None:
    layout = LAYOUTS[name]
    for n, count in [(3, 1), (17, 2), (70, 1)]:
        torch.set_num_threads(count)
        x, values, bias, gy = tensors(layout, n, dtype, bias=n % 2 == 1)
        for order in ("contiguous", "batch-last"):
            engine, given = Engine("cpu", isa), (ORDERS[order](x), values, bias, ORDERS[order](gy))
            results = {}
            for tuning in cpu.tunings():
                with cpu.forced_tuning(tuning):
                    results[tuning] = run_passes(engine, *given, layout)
            first = cpu.tunings()[0]
            for tuning in cpu.tunings()[1:]:
                where = setting(engine, layout, dict(zip(("x", "values", "bias", "gy"), given)), f"tuning {tuning} against {first}")
                check_equal(results[tuning], results[first], OPS, where)
            assert all(t.isfinite().all() for t in results[first])


def test_a_tuning_stays_until_it_is_taken_back(isa: str) -> None:
    assert cpu.tunings() == ["copied", "in_place"]
    own = cpu.tuning()
    for name in cpu.tunings():
        with cpu.forced_tuning(name):
            assert cpu.tuning() == build_info()["tuning"] == name
            assert cpu.isa() == isa
            with cpu.forced_isa(cpu.isas()[0]):
                assert cpu.tuning() == name, "whatever the instruction set"
            with cpu.forced_tuning("copied"):
                assert cpu.tuning() == "copied"
            assert cpu.tuning() == name
        assert cpu.tuning() == own


def test_an_unknown_tuning_is_refused() -> None:
    before = cpu.tuning()
    says = "set_tuning asks for the tuning 'sideways', but there are only: copied,in_place"
    with pytest.raises(RuntimeError, match=says), cpu.forced_tuning("sideways"):
        pass
    assert cpu.tuning() == before


@pytest.mark.parametrize("wish", ["copied", "in_place", "sideways"])
def test_the_environment_forces_a_tuning(wish: str) -> None:
    command = [sys.executable, "-c", "from efcn_kernels import build_info; print(build_info()['tuning'])"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EFCN_CPU_TUNING": wish}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    says = "EFCN_CPU_TUNING asks for the tuning 'sideways', but there are only: copied,in_place"
    assert done.stdout.startswith(says if wish == "sideways" else wish), done.stderr


@pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the sources are not part of an installed package")
def test_tile_sizes_are_those_that_were_compiled(isa: str) -> None:
    text = (ROOT / f"csrc/cpu/isa_{'base' if isa == 'neon' else isa}.cpp").read_text()
    rows, vector_bytes = (re.findall(rf"#define EFCN_{name} (\d+)", text) for name in ("TILE_ROWS", "VECTOR_BYTES"))
    # isa_base.cpp has NEON's rows first
    assert cpu.tile() == (int(rows[0 if isa == "neon" else -1]), int(vector_bytes[0]))


def test_the_library_says_what_it_computes() -> None:
    assert cpu.dtypes() == (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    with pytest.raises(ValueError, match="no kernel of efcn_cpu computes int32"):
        cpu.fma_peak(torch.int32)
