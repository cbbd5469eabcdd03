"""The C++ kernels of csrc/cpu: batch-last, vectorised, with the instruction set chosen at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from efcn_kernels.ops.backends import reference
from efcn_kernels.ops.dispatch import Backend, Problem
from efcn_kernels.ops.sgd import SGD
from efcn_kernels.pattern.index import Index


@cache
def missing() -> str | None:
    """Load the library; why it is not there, or None."""
    found = sorted(Path(__file__).parents[2].glob("_cpu*.so"))
    if not found:
        return "the C++ library is not built: install with a C++ compiler at hand (pip install --no-build-isolation .)"
    try:
        torch.ops.load_library(str(found[0]))
    except (OSError, RuntimeError) as error:
        return f"{found[0].name} does not load: {error}"
    return None


def dtypes() -> tuple[torch.dtype, ...]:
    """What the kernels compute: the list in csrc/cpu/dtype.h."""
    return () if missing() else _dtypes()


@cache
def _dtypes() -> tuple[torch.dtype, ...]:
    return tuple(getattr(torch, name) for name in str(torch.ops.efcn_cpu.dtypes()).split(","))


def isas() -> list[str]:
    """The instruction sets that were compiled in and that this machine runs, lowest first."""
    return [] if missing() else str(torch.ops.efcn_cpu.isas()).split(",")


def isa() -> str:
    """The instruction set in use. Raises RuntimeError where the library is missing or EFCN_CPU_ISA names one that is not there."""
    if reason := missing():
        raise RuntimeError(reason)
    return str(torch.ops.efcn_cpu.isa())


@contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """Compute with another instruction set for a while, in the whole process; for tests and measurements."""
    before = isa()
    torch.ops.efcn_cpu.set_isa(name)
    try:
        yield
    finally:
        torch.ops.efcn_cpu.set_isa(before)


def tunings() -> list[str]:
    """The ways in which products read their images, one of which a micro-architecture prefers; alike in all instruction sets."""
    return [] if missing() else str(torch.ops.efcn_cpu.tunings()).split(",")


def tuning() -> str:
    """The tuning in use. Raises RuntimeError where the library is missing or EFCN_CPU_TUNING names one that is not there."""
    if reason := missing():
        raise RuntimeError(reason)
    return str(torch.ops.efcn_cpu.tuning())


@contextmanager
def forced_tuning(name: str) -> Iterator[None]:
    """Compute with another tuning for a while, whatever the instruction set, in the whole process; for tests and measurements."""
    if reason := missing():
        raise RuntimeError(reason)
    before = torch.ops.efcn_cpu.set_tuning(name)
    try:
        yield
    finally:
        torch.ops.efcn_cpu.set_tuning(before)


def tile() -> tuple[int, int]:
    """Rows of the largest register tile of the instruction set in use, and bytes of its vectors."""
    isa()
    rows, vector_bytes = torch.ops.efcn_cpu.tile()
    return rows, vector_bytes


def prefer_large_pages(fresh: Tensor) -> Tensor:
    """Ask the system to back a tensor that nobody has written yet by large pages; returns it."""
    # exactly a tensor: fake and other subclasses have no memory of their own
    if type(fresh) is Tensor and fresh.device.type == "cpu" and fresh.dtype in dtypes():
        torch.ops.efcn_cpu.prefer_large_pages(fresh)
    return fresh


def fma_peak(dtype: torch.dtype = torch.float32, seconds: float = 0.2) -> float:
    """FLOP/s of all torch threads in a loop of register-only multiply-adds of what the type is multiplied in, the best of several repeats."""
    isa()
    return float(torch.ops.efcn_cpu.fma_peak(dtype, seconds))


def bsr_linear(y: Tensor, x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> None:
    """y[n, p] = bias[p] + sum over blocks (p, q) of values[block] @ x[n, q]; see csrc/cpu/bsr_linear.cpp."""
    torch.ops.efcn_cpu.bsr_linear(y, x, values.contiguous(), None if bias is None else bias.contiguous(), index.crow, index.col)


def bsr_linear_backward_input(gx: Tensor, gy: Tensor, values: Tensor, index: Index) -> None:
    """gx[n, q] = sum over blocks (p, q) of values[block]^T @ gy[n, p]; see csrc/cpu/bsr_linear_backward_input.cpp."""
    torch.ops.efcn_cpu.bsr_linear_backward_input(gx, gy, values.contiguous(), index.tcrow, index.tcol, index.tblock)


def bsr_linear_backward_weight(gvalues: Tensor, gy: Tensor, x: Tensor, index: Index) -> None:
    """gvalues[block] = sum over n of gy[n, p] outer x[n, q]; see csrc/cpu/bsr_linear_backward_weight.cpp."""
    torch.ops.efcn_cpu.bsr_linear_backward_weight(gvalues, gy, x, index.crow, index.col, index.tcrow, index.tcol, index.tblock)


def bsr_linear_backward_weight_sgd(
    values: Tensor, momentum_buffer: Tensor | None, gy: Tensor, x: Tensor, mask: Tensor | None, rule: SGD, index: Index
) -> None:
    """A step of SGD by the gradients of bsr_linear_backward_weight where `mask` is true, by zeros elsewhere; see csrc/cpu/sgd.h."""
    in_place = [values] if momentum_buffer is None else [values, momentum_buffer]
    if gy.size(0) == 0 or not all(t.is_contiguous() for t in in_place):
        # nothing that the kernels take
        reference.bsr_linear_backward_weight_sgd(values, momentum_buffer, gy, x, mask, rule, index)
    else:
        torch.ops.efcn_cpu.bsr_linear_backward_weight_sgd(values, momentum_buffer, gy, x, mask, *rule, *index[:-1])


def max_pool(y: Tensor, taps: Tensor, x: Tensor, window: Sequence[int]) -> None:
    """The largest numbers y, and the numbers of their taps, of the windows of x; see csrc/cpu/max_pool.cpp.

    window: kernel, stride, padding and dilation, each height before width.
    """
    torch.ops.efcn_cpu.max_pool(y, taps, x, *window)


def max_pool_backward(gx: Tensor, gy: Tensor, taps: Tensor, window: Sequence[int]) -> None:
    """gx of `max_pool`, whose taps and window are given."""
    torch.ops.efcn_cpu.max_pool_backward(gx, gy.contiguous(), taps, *window)


def _refuse(problem: Problem) -> str | None:
    if problem.device.type != "cpu":
        return f"it computes on the CPU only, got {problem.device}"
    return None if problem.dtype in dtypes() else f"it computes {', '.join(map(str, dtypes()))}, got {problem.dtype}"


backend = Backend("cpu", missing, _refuse, bsr_linear, bsr_linear_backward_input, bsr_linear_backward_weight, bsr_linear_backward_weight_sgd)
