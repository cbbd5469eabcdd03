"""The CUDA C++ kernels of csrc/cuda, for NVIDIA GPUs of compute capability 8.0 on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efcn_kernels.ops.backends.gpu import DTYPES, tf32_allowed, why_not_capable
from efcn_kernels.ops.dispatch import Backend, Problem, environment
from efcn_kernels.ops.sgd import SGD, step_by_gradient
from efcn_kernels.pattern.index import Index

# which kernels may be taken, in the order of Path in csrc/cuda/job.h
PATHS = ("any", "cuda-cores", "matrix-units")
UNPROVEN = "never run on a chip yet"


def library() -> Path | None:
    """The compiled library, where it was built."""
    return next(iter(sorted(Path(__file__).parents[2].glob("_cuda*.so"))), None)


@cache
def missing() -> str | None:
    """Load the library; why nothing can be computed by it here, or None."""
    found = library()
    if found is None:
        return "the CUDA library is not built: install with EFCN_CUDA=1 and a CUDA toolkit at hand (CUDA_HOME)"
    if torch.version.hip is not None:
        return "torch is a ROCm build, the library is for CUDA"
    if torch.version.cuda is None:
        return "torch is a CPU-only build, the library needs one for CUDA"
    try:
        torch.ops.load_library(str(found))
    except (OSError, RuntimeError) as error:
        # torch names the file only; the loader's own words stand behind it
        return f"{found.name} does not load: {error.__cause__ or error}"
    return None if torch.cuda.is_available() else "torch sees no GPU"


def path() -> str:
    """Which kernels may be taken, one of PATHS: EFCN_CUDA_PATH. Raises ValueError for another word."""
    name = os.environ.get("EFCN_CUDA_PATH") or PATHS[0]
    if name not in PATHS:
        raise ValueError(f"EFCN_CUDA_PATH must be one of {', '.join(PATHS)}, got {name!r}")
    return name


@contextmanager
def forced_path(name: str) -> Iterator[None]:
    """Let only these kernels compute for a while, in the whole process; for tests and measurements."""
    with environment("EFCN_CUDA_PATH", name):
        path()
        yield


def bsr_linear(y: Tensor, x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> None:
    """y[n, p] = bias[p] + sum over blocks (p, q) of values[block] @ x[n, q]; see csrc/cuda/bsr_linear.cu."""
    _launch("bsr_linear", x, y, x, values.contiguous(), None if bias is None else bias.contiguous(), index.crow, index.col)


def bsr_linear_backward_input(gx: Tensor, gy: Tensor, values: Tensor, index: Index) -> None:
    """gx[n, q] = sum over blocks (p, q) of values[block]^T @ gy[n, p]; see csrc/cuda/bsr_linear_backward_input.cu."""
    _launch("bsr_linear_backward_input", gy, gx, gy, values.contiguous(), index.tcrow, index.tcol, index.tblock)


def bsr_linear_backward_weight(gvalues: Tensor, gy: Tensor, x: Tensor, index: Index) -> None:
    """gvalues[block] = sum over n of gy[n, p] outer x[n, q]; see csrc/cuda/bsr_linear_backward_weight.cu."""
    _launch("bsr_linear_backward_weight", x, gvalues, gy, x, index.crow, index.col)


def bsr_linear_backward_weight_sgd(
    values: Tensor, momentum_buffer: Tensor | None, gy: Tensor, x: Tensor, mask: Tensor | None, rule: SGD, index: Index
) -> None:
    """A step of SGD by the gradients of bsr_linear_backward_weight where `mask` is true, by zeros elsewhere."""
    step_by_gradient(bsr_linear_backward_weight, values, momentum_buffer, gy, x, mask, rule, index)


def _launch(op: str, x: Tensor, *operands: Any) -> None:
    """On torch's current stream of the device of x. Sums have one order, whatever the run: no atomics."""
    name = path()
    # CUDA cores have no TF32
    tf32 = x.dtype == torch.float32 and name != "cuda-cores" and tf32_allowed()
    with torch.cuda.device_of(x):
        getattr(torch.ops.efcn_cuda, op)(*operands, PATHS.index(name), tf32)


def _refuse(problem: Problem) -> str | None:
    if problem.device.type != "cuda":
        return f"it computes on a CUDA GPU only, got {problem.device}"
    if problem.dtype not in DTYPES:
        return f"it computes {', '.join(map(str, DTYPES))}, got {problem.dtype}"
    try:
        name = path()
    except ValueError as error:
        return str(error)
    if name == "matrix-units" and problem.dtype == torch.float64:
        return "matrix units, which EFCN_CUDA_PATH asks for, are not used for float64"
    if name == "matrix-units" and problem.dtype == torch.float32 and not tf32_allowed():
        return "matrix units, which EFCN_CUDA_PATH asks for, multiply float32 as TF32, which torch.backends.cuda.matmul does not allow"
    return why_not_capable(problem.device)


backend = Backend(
    "cuda",
    missing,
    _refuse,
    bsr_linear,
    bsr_linear_backward_input,
    bsr_linear_backward_weight,
    bsr_linear_backward_weight_sgd,
    unproven=UNPROVEN,
    # its kernels are chosen by EFCN_CUDA_PATH and by torch's switch for TF32
    lasting=False,
)
