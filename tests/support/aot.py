"""What the compilers make of the Triton kernels, without a GPU: registers, spills, shared memory and the instructions that matter.

    python -m tests.support.aot sm_90 all bfloat16   # one JSON object a line, a kernel each

Launches are recorded as they would go to a GPU, on tensors without memory, and compiled for the chip instead. In a process of its
own, because kernels made under TRITON_INTERPRET=1 cannot be compiled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from efcn_kernels.ops.sgd import SGD
from efcn_kernels.pattern.index import Index
from tests.support.memory_orders import ORDERS

# (backend, architecture, threads of a warp), and the shared memory that one program may have
CHIPS = {"sm_80": (("cuda", 80, 32), 163 << 10), "sm_90": (("cuda", 90, 32), 227 << 10), "gfx942": (("hip", "gfx942", 64), 64 << 10)}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "tf32": torch.float32, "ieee": torch.float32, "float64": torch.float64}
OPS = ("bsr_linear", "bsr_linear_backward_input", "bsr_linear_backward_weight", "bsr_linear_backward_weight_sgd")
INSTRUCTIONS = ("HGMMA", "HMMA", "DMMA", "FFMA", "STL", "LDL", "v_mfma")
_LOADS = r"\b(LDG(?:STS)?\.E[\w.]*|(?:global|buffer)_load_\w+)"


class Problem(NamedTuple):
    """A layer's blocks of Co x Ci, and a batch in one memory order."""

    co: int
    ci: int
    n: int
    order: str


# whole vectors, in both orders; then what is odd: three channels gathered, an odd batch, ten classes
VECTORS = [Problem(256, 256, 256, "batch-last"), Problem(256, 256, 256, "contiguous")]
ODD = [
    Problem(192, 64, 250, "batch-last"),
    Problem(64, 3, 250, "batch-last"),
    Problem(64, 3, 250, "contiguous"),
    Problem(17, 29, 33, "nchw"),
    Problem(10, 64, 8, "batch-last"),
]


class Launch(NamedTuple):
    """A kernel and the arguments of a launch."""

    kernel: Any
    operands: tuple[Any, ...]
    keywords: dict[str, Any]


def launches(op: str, problem: Problem, dtype: torch.dtype) -> Iterator[tuple[Any, Launch]]:
    """(configuration, launch) of each candidate that the op may choose."""
    from efcn_kernels.ops.backends.triton import configs

    launch: Any = import_module("efcn_kernels.ops.backends.triton.launch")
    sites, blocks = 64, 1600
    with torch.device("meta"):
        x, gy = (ORDERS[problem.order](torch.empty(problem.n, sites, c, dtype=dtype)) for c in (problem.ci, problem.co))
        values, bias = torch.empty(blocks, problem.co, problem.ci, dtype=dtype), torch.empty(sites, problem.co, dtype=dtype)
        begin, entries = torch.empty(sites + 1, dtype=torch.int32), torch.empty(blocks, dtype=torch.int32)
    index = Index(begin, entries, begin, entries, entries, None)
    arguments = {
        OPS[0]: (gy, x, values, bias, index),
        OPS[1]: (x, gy, values, index),
        OPS[2]: (values, gy, x, index),
        OPS[3]: (values, values, gy, x, values.bool(), SGD(0.1, 0.9, 0.1, True), index),
    }[op]
    choices: list[Any] = []
    made: list[Launch] = []

    def record(kernel: Any) -> Any:
        return mock.MagicMock(__getitem__=lambda _self, _grid: lambda *operands, **keywords: made.append(Launch(kernel, operands, keywords)))

    def pick(shape: Any, _key: Any, run: Any) -> Any:
        choices.extend(configs.candidates(shape))
        for config in choices[:-1]:
            run(config, *((values, arguments[5]) if op == OPS[3] else (values,) if op == OPS[2] else ()))
        return choices[-1]

    with mock.patch.multiple(launch, product=record(launch.product), weight=record(launch.weight), pick=pick):
        getattr(launch, op)(*arguments)
    yield from zip(choices, made, strict=True)


def compiled(launch: Launch, chip: str) -> dict[str, Any]:
    """The counts of one kernel: what the chip would run for this launch, with what Triton itself finds out about its arguments."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import create_function_from_signature

    target, kernel = GPUTarget(*CHIPS[chip][0]), launch.kernel
    backend = make_backend(target)
    bound = create_function_from_signature(kernel.signature, kernel.params, backend)(*launch.operands, **launch.keywords)
    options, *source = kernel._pack_args(backend, launch.keywords, *bound)
    kernel = triton.compile(ASTSource(kernel, *source), target=target, options=options.__dict__)
    if "cubin" in kernel.asm:
        text, resources = _disassembled(kernel.asm["cubin"], Path(triton.__file__).parent / "backends" / "nvidia" / "bin")
        spilled = 0
    else:
        text = resources = kernel.asm["amdgcn"]
        spilled = sum(map(int, re.findall(r"[vs]gpr_spill_count:\s*(\d+)", text)))
    registers = re.search(r"REG:(\d+)|\.vgpr_count:\s*(\d+)", resources)
    assert registers is not None
    counts = {name: len(re.findall(rf"\b{name}", text)) for name in INSTRUCTIONS}
    loads = re.findall(_LOADS, text)
    return {
        "shared": kernel.metadata.shared,
        "registers": int(next(filter(None, registers.groups()))),
        "spills": spilled + counts["STL"] + counts["LDL"],
        "matrix": next((name for name in ("HGMMA", "HMMA", "DMMA", "v_mfma") if counts[name]), "FFMA" if counts["FFMA"] else ""),
        "loads": {name: loads.count(name) for name in sorted(set(loads))},
    }


def _disassembled(cubin: bytes, tools: Path) -> tuple[str, str]:
    """The instructions and the resources of an NVIDIA binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        lines = (["nvdisasm", "-c"], ["cuobjdump", "-res-usage"])
        texts = [subprocess.run([tools / tool, flag, file.name], capture_output=True, text=True, check=True).stdout for tool, flag in lines]
    return texts[0], texts[1]


def main(chip: str, which: str, *dtypes: str) -> None:
    """Print the counts of "all" candidates of every problem, or of the "first" for whole vectors, which most layers take."""
    with mock.patch.object(torch.version, "hip", "6.4" if chip == "gfx942" else None):
        for dtype, problem, op in product(dtypes, VECTORS if which == "first" else VECTORS + ODD, OPS):
            torch.backends.cuda.matmul.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
            for config, launch in islice(launches(op, problem, DTYPES[dtype]), 1 if which == "first" else None):
                print(json.dumps({"op": op, "dtype": dtype, "problem": problem, "config": config} | compiled(launch, chip)), flush=True)


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET", "0") == "0", "kernels made under TRITON_INTERPRET=1 cannot be compiled"
    main(*sys.argv[1:])
