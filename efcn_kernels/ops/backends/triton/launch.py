"""The passes as launches of the two kernels: addresses, tiles and grids."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
import triton
from torch import Tensor

from efcn_kernels.ops.backends.triton import interpreting
from efcn_kernels.ops.backends.triton.configs import VECTOR_BYTES, Config, Shape, kind_of, pick
from efcn_kernels.ops.backends.triton.product import product
from efcn_kernels.ops.backends.triton.weight import weight
from efcn_kernels.ops.sgd import SGD, step_by_gradient
from efcn_kernels.pattern.index import Index

_NO_STEP = SGD(0.0, 0.0, 0.0, False)
# larger divisors of strides make no difference: no load takes more elements
_ALIGN = 16


def bsr_linear(y: Tensor, x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> None:
    """y[n, p] = bias[p] + sum over blocks (p, q) of values[block] @ x[n, q]."""
    _product(y, x, values, bias, index.crow, index.col, None)


def bsr_linear_backward_input(gx: Tensor, gy: Tensor, values: Tensor, index: Index) -> None:
    """gx[n, q] = sum over blocks (p, q) of values[block]^T @ gy[n, p]."""
    _product(gx, gy, values, None, index.tcrow, index.tcol, index.tblock)


def bsr_linear_backward_weight(gvalues: Tensor, gy: Tensor, x: Tensor, index: Index) -> None:
    """gvalues[block] = sum over n of gy[n, p] outer x[n, q]."""
    _weight(gvalues, None, gy, x, None, None, index)


def bsr_linear_backward_weight_sgd(
    values: Tensor, momentum_buffer: Tensor | None, gy: Tensor, x: Tensor, mask: Tensor | None, rule: SGD, index: Index
) -> None:
    """A step of SGD by the gradients of bsr_linear_backward_weight where `mask` is true, by zeros elsewhere."""
    if values.is_contiguous() and (momentum_buffer is None or momentum_buffer.is_contiguous()):
        _weight(values, momentum_buffer, gy, x, None if mask is None else mask.contiguous(), rule, index)
        return
    step_by_gradient(bsr_linear_backward_weight, values, momentum_buffer, gy, x, mask, rule, index)


def _product(y: Tensor, x: Tensor, values: Tensor, bias: Tensor | None, begin: Tensor, source: Tensor, block: Tensor | None) -> None:
    if y.numel() == 0:
        return
    if values.numel() == 0:
        _ = y.zero_() if bias is None else y.copy_(bias.expand_as(y))
        return
    (n, rows, out), channels = y.shape, x.size(2)
    weights, offsets = values.contiguous(), None if bias is None else bias.contiguous()
    shape = Shape(kind_of(x.dtype), rows, n, out, channels, _load_bytes(x))

    def run(config: Config) -> None:
        grid = rows * triton.cdiv(n, config.block_m) * triton.cdiv(out, config.block_n)
        operands = (y, x, weights, offsets, begin, source, block, n, *y.stride(), *x.stride())
        _launch(product, grid, operands, x, config, IN=channels, OUT=out, TRANSPOSED=block is not None, **_known("Y", y), **_known("X", x))

    run(pick(shape, (x.dtype, block is None, x.stride(), x.device), run))


def _weight(values: Tensor, momentum_buffer: Tensor | None, gy: Tensor, x: Tensor, mask: Tensor | None, rule: SGD | None, index: Index) -> None:
    if values.numel() == 0:
        return
    (blocks, co, ci), (n, rows, _) = values.shape, gy.shape
    shape = Shape(kind_of(x.dtype), rows, -(-blocks * ci // rows), co, None, min(_load_bytes(x), _load_bytes(gy)))

    def run(config: Config, result: Tensor | None = None, rule: SGD | None = None) -> None:
        # see first_tile in weight.py
        grid = (blocks * ci // config.block_m + rows) * triton.cdiv(co, config.block_n)
        buffers = (torch.empty_like(values), None, None) if result is None else (result, momentum_buffer, mask)
        step = rule or _NO_STEP
        operands = (*buffers, gy, x, index.crow, index.col, n, rows, *gy.stride(), *x.stride(), *step[:3])
        constants = {"CO": co, "CI": ci, "STEP": rule is not None, "NESTEROV": step.nesterov, **_known("GY", gy), **_known("X", x)}
        # a step of SGD has the bits of the one in plain torch, where each product is rounded; the products of tiles keep their fma
        _launch(weight, grid, operands, x, config, **constants, **({"enable_fp_fusion": False} if rule else {}))

    # measured without a step, so that a step has the bits of the gradient that it stands for
    run(pick(shape, (x.dtype, gy.stride(), x.stride(), x.device), run), values, rule)


def _known(name: str, x: Tensor) -> dict[str, int]:
    """What the kernel is to know of the strides of x: see tiles.py."""
    unit = 0 if x.stride(0) == 1 else 2 if x.stride(2) == 1 else -1
    return {f"{name}_UNIT": unit, f"{name}_ALIGN": gcd(_ALIGN, *(s for axis, s in enumerate(x.stride()) if axis != unit))}


def _load_bytes(x: Tensor) -> int:
    """How much of x one load may take."""
    known = _known("X", x)
    run = 1 if known["X_UNIT"] == -1 else gcd(known["X_ALIGN"], x.size(known["X_UNIT"]))
    return min(run * x.element_size(), VECTOR_BYTES)


def _launch(kernel: Any, grid: int, operands: tuple[Any, ...], x: Tensor, config: Config, **constants: Any) -> None:
    """On torch's current stream of the device of x."""
    # an AMD GPU has 64 KB of shared memory, and its compiler copies through registers: two stages
    stages = 2 if torch.version.hip else config.num_stages
    with torch.cuda.device_of(x):
        kernel[(grid,)](
            *operands,
            **constants,
            N_ALIGN=gcd(_ALIGN, x.size(0)),
            PRECISION="tf32" if kind_of(x.dtype) == "tf32" else "ieee",
            WIDEN=interpreting() and x.element_size() == 2,
            BLOCK_M=config.block_m,
            BLOCK_N=config.block_n,
            BLOCK_K=config.block_k,
            num_warps=config.num_warps,
            num_stages=stages,
        )
