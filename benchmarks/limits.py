"""What keeps the three passes from the multiply-add peak, taken apart: the same blocks with more and more of the data out of the caches.

    python benchmarks/limits.py --json bench-output/limits.json

Blocks of 192 x 64 as in conv2 of AlexNet, N = 250. `in cache`: one output site over 16 input sites, 0.8 MB of weights and 1 MB
of images. `weights from memory`: 64 output sites over the same 16 input sites, 50 MB of weights. `all from memory`: conv2 itself.
Beside them the multiply-add loop that all shares refer to, torch's matrix product (MKL or oneDNN's) of the same shape, and what memory
gives when it is only read or only written: targets for few images are shares of a copy, which does both.
"""

from __future__ import annotations

import argparse
import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from efcn_kernels.bench import select
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.peak import Peak
from efcn_kernels.bench.result import Timing, prepare, save_json
from efcn_kernels.bench.timing import interleave, seconds
from efcn_kernels.ops.backends import cpu

BATCH, BLOCK = 250, (192, 64)
PAGE = 1 << 21
MEMORY_BYTES = 512 << 20
LAYOUTS = {
    "in cache": BlockLayout.full(1, 16, BLOCK),
    "weights from memory": BlockLayout.full(64, 16, BLOCK),
    "all from memory": BlockLayout.from_conv(select(["alexnet.conv2"])[0].geometry),
}


def on_large_pages(*shape: int) -> Tensor:
    """Random numbers that begin with a large page, so that small pages cost none of the cases anything."""
    numel, page = math.prod(shape), PAGE // 4
    memory = cpu.prefer_large_pages(torch.empty(numel + 2 * page))
    start = -memory.data_ptr() % PAGE // 4
    return memory[start : start + numel].normal_().view(shape)


def passes(layout: BlockLayout) -> dict[str, Callable[[], object]]:
    """The three passes into memory that exists already: what the system takes to hand out fresh pages is not the kernels'."""
    (co, ci), index = layout.block, layout.index(torch.device("cpu"))
    # (site, channel, image) in memory, as the kernels like it
    x, out_x = (on_large_pages(layout.in_sites, ci, BATCH).permute(2, 0, 1) for _ in range(2))
    y, out_y = (on_large_pages(layout.out_sites, co, BATCH).permute(2, 0, 1) for _ in range(2))
    values, out_values = (on_large_pages(layout.nnzb, co, ci) for _ in range(2))
    return {
        "forward": lambda: cpu.bsr_linear(out_y, x, values, None, index),
        "grad_input": lambda: cpu.bsr_linear_backward_input(out_x, y, values, index),
        "grad_weight": lambda: cpu.bsr_linear_backward_weight(out_values, y, x, index),
    }


def product() -> tuple[Callable[[], Tensor], int]:
    """torch.mm of the forward pass of one output site over 16 blocks, and its FLOP."""
    a, b, c = torch.randn(BLOCK[0], 16 * BLOCK[1]), torch.randn(16 * BLOCK[1], BATCH), torch.empty(BLOCK[0], BATCH)
    return lambda: torch.mm(a, b, out=c), 2 * a.numel() * BATCH


def memory_rates(repeats: int = 5) -> dict[str, float]:
    """GB/s of reading (a sum), writing (memset past the caches; zeros would go twice as fast) and copying large memory, the best of some repeats."""
    memory = on_large_pages(MEMORY_BYTES // 4)
    ways: dict[str, Callable[[], object]] = {"read": memory.sum, "written": lambda: ctypes.memset(memory.data_ptr(), 1, MEMORY_BYTES)}
    return {name: MEMORY_BYTES / min(seconds(way) for _ in range(repeats)) / 1e9 for name, way in ways.items()}


def measure(rounds: int, limit_s: float) -> dict[str, Any]:
    """GFLOP/s and shares of the peak, of the median round."""
    torch.manual_seed(0)
    peak = Peak()
    peak.measure(torch.float32)
    multiply, flop = product()
    steps: dict[str, Callable[[], object]] = {"torch.mm": multiply}
    flops = {"torch.mm": flop}
    for name, layout in LAYOUTS.items():
        for key, step in passes(layout).items():
            steps[f"{name}/{key}"] = step
            flops[f"{name}/{key}"] = 2 * layout.nnz * BATCH
    times = interleave(steps, rounds, limit_s)
    peak.measure(torch.float32)
    assert peak.fma is not None
    rows = {}
    for name, spent in times.items():
        timing = Timing(spent)
        rate = flops[name] / (1e-3 * timing.median_ms)
        rows[name] = {**timing.as_dict(), "gflops": rate / 1e9, "share_of_peak": rate / peak.fma}
    return {"peak_gflops": peak.fma / 1e9, "memory_gbytes": {**memory_rates(), "copied": peak.copy / 1e9}, "batch": BATCH, "rows": rows}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every round to this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds at most")
    arguments = parser.parse_args()
    if (reason := cpu.missing()) is not None:
        parser.error(reason)
    if arguments.json:
        prepare(arguments.json)
    # of one core: with more, one output site is cut into pieces too small to say anything about the rest
    torch.set_num_threads(1)
    where = provenance()
    result = measure(arguments.rounds, arguments.limit)
    print(f"multiply-add peak {result['peak_gflops']:.0f} GFLOP/s on {torch.get_num_threads()} threads")
    print("memory: " + ", ".join(f"{rate:.1f} GB/s {way}" for way, rate in result["memory_gbytes"].items()))
    for name, row in result["rows"].items():
        print(f"{name:34} {row['gflops']:6.0f} GFLOP/s  {row['share_of_peak']:4.0%}")
    if arguments.json:
        save_json({**where, **result}, arguments.json)


if __name__ == "__main__":
    main()
