"""What the compiler made of each CUDA kernel for a Hopper GPU, as the table of docs/performance.md. Needs `make cuda`, and no GPU.

python -m tests.support.cuda.resources
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from build_tools import ptxas
from efcn_kernels import BlockLayout
from tests.support.cuda.emulator import MATHS, ROOT, Emulated, kernels, name_of
from tests.support.memory_orders import ORDERS
from tests.support.problems import OPS

CHIP = "sm_90a"
# of a multiprocessor of an H100 or H200: registers, which a warp gets 256 at a time, shared memory with 1 KiB more for each program, threads
REGISTERS, SHARED, THREADS = 65536, 228 << 10, 2048
_CONFIG = re.compile(r"6ConfigILNS_4MathE(\d)ELb(\d)" + r"ELi(\d+)" * 6 + r"ELNS_5AlongE(\d)ELi(\d+)ELS\w+_(\d)ELi(\d+)E")


class Resources(NamedTuple):
    """A kernel's name, the programs of it that a multiprocessor holds at a time, and why no more."""

    op: str
    name: str
    threads: int
    registers: int
    shared: int
    programs: int
    limit: str


def occupancy(threads: int, registers: int, shared: int) -> tuple[int, str]:
    """(programs of a multiprocessor, what there is no more of)."""
    each = -(-registers // 8) * 8 * threads
    fitting = {"registers": REGISTERS // each, "shared memory": SHARED // (shared + 1024), "threads": THREADS // threads}
    limit = min(fitting, key=lambda name: fitting[name])
    return fitting[limit], limit


def shared_bytes(op: str, number: int) -> int:
    """What a program of the number-th kernel of an op has of shared memory, for rows that are computed one by one."""
    kernel = kernels(op)[number]
    dtype = MATHS[list(MATHS)[kernel.math]]
    # what the kernel reads lies along the images, or along the channels
    order = "batch-last" if kernel.b_rows == (op != OPS[2]) else "contiguous"
    x = ORDERS[order](torch.zeros(16, 1, 16, dtype=dtype))
    values = torch.zeros(1, 16, 16, dtype=dtype)
    arguments, out = {OPS[0]: ((x, values, None), x.clone()), OPS[1]: ((x, values), x.clone()), OPS[2]: ((x, x), values)}[op]
    done = Emulated(op, BlockLayout.full(1, 1, (16, 16)), arguments, out).run(number, members=1)
    return int(done.outcome.shared_bytes)


def table() -> list[Resources]:
    """Every kernel of the built library, by op and in the order of csrc/cuda/configs.h. Raises RuntimeError where it is not built."""
    registers: dict[tuple[str, tuple[int, ...]], int] = {}
    for report in ptxas.reports(ROOT):
        for kernel in ptxas.kernels(report.read_text()):
            config = _CONFIG.search(kernel.name)
            assert config is not None, f"{kernel.name} is not of a configuration"
            if kernel.chip == CHIP:
                registers[report.name.split(".")[0], tuple(map(int, config.groups()))] = kernel.registers
    if not registers:
        raise RuntimeError("the CUDA library is not built as its sources are now: expected `make cuda` before")
    found = []
    for op in OPS:
        for number, k in enumerate(kernels(op)):
            along = (1 - k.a_rows, k.a_bytes, 1 - k.b_rows, k.b_bytes)
            names = [key for key in registers if key[0] == op and _same(key[1], (k.math, k.units, k.m, k.n, k.k), k.stages, along)]
            used, shared = registers[names[0]], shared_bytes(op, number)
            found.append(Resources(op, name_of(k), k.threads, used, shared, *occupancy(k.threads, used, shared)))
    return found


def _same(config: tuple[int, ...], tile: tuple[int, ...], stages: int, along: tuple[int, ...]) -> bool:
    return config[:5] == tile and config[7] == stages and config[8:] == along


def main() -> None:
    """Print the table in Markdown."""
    print("| op | kernel | threads | registers | shared memory, KB | programs at a time | limited by |\n|---|---|---|---|---|---|---|")
    seen = set()
    for row in table():
        # float16 is mostly compiled to the same as bfloat16
        same = row._replace(name=row.name.removeprefix("b"))
        if same in seen:
            continue
        seen.add(same)
        op = row.op.removeprefix("bsr_linear").lstrip("_") or "forward"
        print(f"| {op} | {row.name} | {row.threads} | {row.registers} | {row.shared / 1024:.0f} | {row.programs} | {row.limit} |")


if __name__ == "__main__":
    main()
