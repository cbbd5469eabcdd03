"""The CUDA kernels' own C++ run on the CPU: see emulated_warp.h. One library for each op, compiled once and kept in build/,
when the first test runs one of its kernels; what only looks at the choice of kernels needs a small one."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from efcn_kernels import BlockLayout
from tests.support.problems import OPS

ROOT = Path(__file__).parents[3]
# in the order of Math in csrc/cuda/job.h
MATHS = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16, "tf32": torch.float32}
PATHS = ("any", "cuda-cores", "matrix-units")
COMPILER = shutil.which("g++")
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-fPIC", "-shared")


class View(ctypes.Structure):
    """As in csrc/cuda/job.h."""

    _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("batch", "site", "channel"))]

    @classmethod
    def of(cls, x: Tensor) -> View:
        """x (N, sites, channels)."""
        return cls(x.data_ptr(), *x.stride())


class ProductJob(ctypes.Structure):
    """As in csrc/cuda/job.h."""

    _fields_ = [
        *((name, View) for name in ("y", "x")),
        *((name, ctypes.c_void_p) for name in ("values", "bias", "begin", "source", "number")),
        *((name, ctypes.c_int64) for name in ("batch", "rows", "out", "in", "a_out", "a_in", "entries", "members")),
    ]


class WeightJob(ctypes.Structure):
    """As in csrc/cuda/job.h."""

    _fields_ = [
        ("gvalues", ctypes.c_void_p),
        *((name, View) for name in ("gy", "x")),
        *((name, ctypes.c_void_p) for name in ("begin", "source")),
        *((name, ctypes.c_int64) for name in ("batch", "rows", "out", "in", "entries")),
    ]


class Traits(ctypes.Structure):
    """As in choose.cpp."""

    _fields_ = [(name, ctypes.c_int32) for name in ("math", "units", "m", "n", "k", "stages", "threads", "a_rows", "a_bytes", "b_rows", "b_bytes")]


class Outcome(ctypes.Structure):
    """As in emulator.h."""

    _fields_ = [*((name, ctypes.c_int64) for name in ("programs", "shared_bytes", "conflicts")), ("message", ctypes.c_char * 200)]


class Schedule(NamedTuple):
    """The order in which warps run, and whether copies arrive as late as they may or at once."""

    backwards: bool = False
    late: bool = True


IN_ORDER = Schedule()


class Done(NamedTuple):
    """A result, how often each of its numbers was written, and (products) how often each weight was copied."""

    result: Tensor
    outcome: Any
    written: Tensor
    copied: Tensor


@cache
def library(name: str) -> ctypes.CDLL:
    """A .cpp of this folder, compiled by g++: "choose", or the kernels of an op."""
    assert COMPILER is not None
    sources = sorted([*(ROOT / "csrc/cuda").glob("*.h"), *Path(__file__).parent.glob("*.h"), Path(__file__).parent / f"{name}.cpp"])
    digest = hashlib.sha256(b"".join([*(path.read_bytes() for path in sources), *map(str.encode, FLAGS)])).hexdigest()[:16]
    folder = ROOT / "build" / "cuda-emulator"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{digest}.so"
    # one of several test processes compiles, the others wait
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            subprocess.run([COMPILER, *FLAGS, f"-I{ROOT / 'csrc/cuda'}", Path(__file__).parent / f"{name}.cpp", "-o", part], check=True)
            part.rename(target)
    return ctypes.CDLL(str(target))


@cache
def kernels(op: str) -> list[Any]:
    """The traits of every compiled kernel of an op."""
    traits = _choosing(op, "traits")
    traits.restype = Traits
    return [traits(number) for number in range(_choosing(op, "kernels")())]


def _choosing(op: str, what: str) -> Any:
    return getattr(library("choose"), f"{op}_{what}")


def name_of(kernel: Any) -> str:
    """A kernel in words."""
    math, unit = list(MATHS)[kernel.math], "units" if kernel.units else "cores"
    along = ["depth", "rows"]
    return f"{math} {unit} {kernel.m}x{kernel.n}x{kernel.k} {along[kernel.a_rows]} {kernel.a_bytes} {along[kernel.b_rows]} {kernel.b_bytes}"


class Emulated:
    """One call of an op on CPU tensors: which kernels can take it, which one is chosen, and what each computes.

    arguments: (x, values, bias) forward, (gy, values) for grad-input, (gy, x) for grad-weight; out: where the result goes, NaN before.
    """

    def __init__(self, op: str, layout: BlockLayout, arguments: Sequence[Tensor | None], out: Tensor) -> None:
        self.op, self.out = op, out
        index = layout.index(torch.device("cpu"))
        co, ci = layout.block
        a, b = (t for t in arguments[:2] if t is not None)
        # the tensors must outlive the job
        self.kept = (*arguments, out, *index)
        self.job: Any
        if op == OPS[2]:
            self.sources = layout.in_sites
            begin, source = index.crow.data_ptr(), index.col.data_ptr()
            self.job = WeightJob(out.data_ptr(), View.of(a), View.of(b), begin, source, a.size(0), layout.out_sites, co, ci, layout.nnzb)
            return
        assert b.is_contiguous()
        forward = op == OPS[0]
        bias = None if not forward or arguments[2] is None else arguments[2].data_ptr()
        arrays = (index.crow, index.col, None) if forward else (index.tcrow, index.tcol, index.tblock)
        pointers = (b.data_ptr(), bias, *(None if array is None else array.data_ptr() for array in arrays))
        sizes = (layout.out_sites, co, ci, ci, 1) if forward else (layout.in_sites, ci, co, 1, ci)
        self.sources = layout.in_sites if forward else layout.out_sites
        self.job = ProductJob(View.of(out), View.of(a), *pointers, a.size(0), *sizes, layout.nnzb, 1)

    def fits(self, kernel: int) -> bool:
        """Whether a kernel can read these tensors."""
        fitting = _choosing(self.op, "fitting")
        fitting.restype = ctypes.c_bool
        return bool(fitting(ctypes.byref(self.job), kernel))

    def chosen(self, math: str, path: str = "any") -> int:
        """The number of the kernel that would be launched, or -1."""
        return int(_choosing(self.op, "chosen")(ctypes.byref(self.job), list(MATHS).index(math), PATHS.index(path)))

    def run(self, kernel: int, schedule: Schedule = IN_ORDER, members: int = 0) -> Done:
        """Run one kernel. members: of each program, chosen where 0."""
        weights = self.job.entries * self.job.out * getattr(self.job, "in")
        tensors = [t for t in self.kept if isinstance(t, Tensor) and t.dtype.is_floating_point]
        # emulator.h counts the result's memory first
        counts = torch.zeros(sum(self._extent(t) for t in tensors) + 1, dtype=torch.int32)
        outcome = Outcome()
        self.out.fill_(torch.nan)
        arguments = (ctypes.byref(self.job), kernel, ctypes.c_int64(self.sources), ctypes.c_int64(members), *schedule)
        library(self.op).run(*arguments, ctypes.byref(outcome), ctypes.c_void_p(counts.data_ptr()))
        assert not outcome.message, outcome.message.decode()
        written = counts.as_strided(self.out.shape, self.out.stride())
        assert int(written.sum()) == int(counts[: self._extent(self.out)].sum()), "something between the numbers of the result was written"
        first = self._extent(self.out) + self._extent(tensors[0])
        return Done(self.out, outcome, written, counts[first : first + (0 if self.op == OPS[2] else weights)])

    @staticmethod
    def _extent(x: Tensor) -> int:
        return 0 if x.numel() == 0 else 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride()))
