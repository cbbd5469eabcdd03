"""Determinism across threads and calls, several Python threads at once, and forked workers."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from efcn_kernels import BlockLayout, ConvGeometry
from efcn_kernels.ops.backends import cpu
from tests.support.judge import check, check_equal, setting
from tests.support.memory_orders import ORDERS
from tests.support.oracle import Engine, Passes, random_layout, run_passes
from tests.support.problems import OPS, tensors

ROOT = Path(__file__).parents[2]
LAYOUTS = {
    "convolution": BlockLayout.from_conv(ConvGeometry.make(5, 17, (6, 7), 3, padding=1)),
    "one row": BlockLayout.full(1, 50, (10, 16)),
    "one column": BlockLayout.full(50, 1, (10, 16)),
    "random": random_layout(23, 19, (8, 8), 0.3),
}


Given = tuple[Tensor, Tensor, Tensor | None, Tensor]


def check_again(engine: Engine, layout: BlockLayout, given: Given, wanted: Passes) -> None:
    """The bits of another run of the same."""
    where = setting(engine, layout, dict(zip(("x", "values", "bias", "gy"), given)), "against the bits of another run")
    check_equal(run_passes(engine, *given, layout), wanted, OPS, where)


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bit_equal_whatever_the_number_of_threads(engine: Engine, name: str, dtype: torch.dtype, threads: None, poisoned: None) -> None:
    engine.needs_own_sums()
    layout = LAYOUTS[name]
    for n in (1, 63):
        x, values, bias, gy = tensors(layout, n, dtype)
        for order in ("contiguous", "batch-last"):
            given = (ORDERS[order](x), values, bias, ORDERS[order](gy))
            torch.set_num_threads(1)
            alone = run_passes(engine, *given, layout)
            for count in (2, 3, 1):
                torch.set_num_threads(count)
                check_again(engine, layout, given, alone)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_right_on_two_threads(engine: Engine, name: str, threads: None, poisoned: None) -> None:
    torch.set_num_threads(2)
    x, values, bias, gy = tensors(LAYOUTS[name], 63, torch.float32)
    check(engine, LAYOUTS[name], x, values, bias, gy)
    check(engine, LAYOUTS[name], ORDERS["batch-last"](x), values, bias, ORDERS["batch-last"](gy))


def test_more_threads_than_work(engine: Engine, threads: None) -> None:
    torch.set_num_threads(7)
    layout = BlockLayout.full(1, 1, (2, 3))
    x, values, bias, gy = tensors(layout, 2, torch.float32)
    check(engine, layout, x, values, bias, gy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [(1,), (2,), (1, 3, 2)])
def test_python_threads_at_once(engine: Engine, counts: tuple[int, ...], dtype: torch.dtype, threads: None) -> None:
    """Two threads, four problems, each call on its own number of torch's threads: workspaces must not be shared."""
    problems = []
    for name in ("convolution", "random"):
        for n, order in ((17, "contiguous"), (40, "batch-last")):
            x, values, bias, gy = tensors(LAYOUTS[name], n, dtype)
            given = (ORDERS[order](x), values, bias, ORDERS[order](gy))
            problems.append((given, LAYOUTS[name], run_passes(engine, *given, LAYOUTS[name])))

    def again(k: int) -> None:
        torch.set_num_threads(counts[k % len(counts)])
        given, layout, wanted = problems[k % len(problems)]
        check_again(engine, layout, given, wanted)

    with ThreadPoolExecutor(2) as pool:
        # what fails there is raised here
        list(pool.map(again, range(24)))


def test_scratch_between_python_threads(engine: Engine, threads: None) -> None:
    """Scratch of more than 1 MiB outlives its call and is taken by whoever calls next, on another thread and for another size."""
    layout = BlockLayout.full(2, 2, (32, 32))
    problems = []
    for n in (4500, 5001, 9000):
        given = tensors(layout, n, torch.float32)
        problems.append((given, run_passes(engine, *given, layout)))

    def again(k: int) -> None:
        given, wanted = problems[k % len(problems)]
        check_again(engine, layout, given, wanted)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(again, range(12)))


FORKED = """
import torch
from torch.utils.data import DataLoader, Dataset
from efcn_kernels import LocallyConnected2d

torch.set_num_threads(2)
torch.manual_seed(0)
layer = LocallyConnected2d(8, 16, 9, 3, padding=1)
x = torch.randn(64, 8, 9, 9)

class Images(Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, i):
        inside = layer(x)
        inside.square().sum().backward()
        return inside.detach(), layer.weight.grad.clone()

# the parent's thread pool is awake before it forks
layer(x).sum().backward()
layer.zero_grad()
with torch.no_grad():
    wanted = layer(x)
loader = DataLoader(Images(), batch_size=None, num_workers=1, timeout=60, multiprocessing_context="fork")
for y, gradient in loader:
    torch.testing.assert_close(y, wanted)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
with torch.no_grad():
    assert torch.equal(layer(x), wanted)
print("fine")
"""


@pytest.mark.parametrize("backend", ["reference", *([] if cpu.missing() else ["cpu"])])
def test_forked_workers_compute(backend: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EFCN_BACKEND": backend}
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "fine", done.stderr


def test_the_environment_forces_an_instruction_set() -> None:
    if cpu.missing():
        pytest.skip(f"no instruction set to force: {cpu.missing()}")
    lowest = cpu.isas()[0]
    command = [sys.executable, "-c", "from efcn_kernels import build_info; print(build_info()['isa'])"]
    for isa, says in [(lowest, lowest), ("avx1024", "EFCN_CPU_ISA asks for the instruction set 'avx1024'")]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "EFCN_CPU_ISA": isa}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.stdout.startswith(says), done.stderr
