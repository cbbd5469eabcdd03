"""torch.ops.efcn.*: the schema of each op, its shape function and its derivative, once for all backends.

The three passes are bilinear in their two tensors, so the derivative of each is expressed through the other two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from efcn_kernels.ops import passes
from efcn_kernels.ops.sgd import SGD
from efcn_kernels.pattern.index import Index

_INDEX = "Tensor crow, Tensor col, Tensor tcrow, Tensor tcol, Tensor tblock, str backend"
_library = torch.library.Library("efcn", "DEF")
_library.define(f"bsr_linear(Tensor x, Tensor values, Tensor? bias, {_INDEX}) -> Tensor")
_library.define(f"bsr_linear_backward_input(Tensor gy, Tensor values, {_INDEX}) -> Tensor")
_library.define(f"bsr_linear_backward_weight(Tensor gy, Tensor x, {_INDEX}) -> Tensor")
# a step of SGD instead of a result; it has no derivative
_library.define(
    "bsr_linear_backward_weight_sgd(Tensor(a!) values, Tensor(b!)? momentum_buffer, Tensor gy, Tensor x, Tensor? mask, "
    f"float lr, float momentum, float weight_decay, bool nesterov, {_INDEX}) -> ()"
)
_ops = torch.ops.efcn


def bsr_linear(x: Tensor, values: Tensor, bias: Tensor | None, index: Index, backend: str) -> Tensor:
    """As in `passes`, through torch's dispatcher: differentiable, and seen by torch.compile, torch.func and tracers."""
    y: Tensor = _ops.bsr_linear(x, values, bias, *index[:-1], backend)
    return y


def bsr_linear_backward_input(gy: Tensor, values: Tensor, index: Index, backend: str) -> Tensor:
    """As in `passes`, through torch's dispatcher."""
    gx: Tensor = _ops.bsr_linear_backward_input(gy, values, *index[:-1], backend)
    return gx


def bsr_linear_backward_weight(gy: Tensor, x: Tensor, index: Index, backend: str) -> Tensor:
    """As in `passes`, through torch's dispatcher."""
    gvalues: Tensor = _ops.bsr_linear_backward_weight(gy, x, *index[:-1], backend)
    return gvalues


def _bsr_linear_out(x: Tensor, values: Tensor, bias: Tensor | None, crow: Tensor, *_: Any) -> Tensor:
    return passes.bsr_linear_out(x, values, crow)


def _backward_input_out(gy: Tensor, values: Tensor, crow: Tensor, col: Tensor, tcrow: Tensor, *_: Any) -> Tensor:
    return passes.backward_input_out(gy, values, tcrow)


def _backward_weight_out(gy: Tensor, x: Tensor, crow: Tensor, col: Tensor, *_: Any) -> Tensor:
    return passes.backward_weight_out(gy, x, col)


def _bsr_linear(x: Tensor, values: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    _check_sites("x", x, rest[2])
    return passes.bsr_linear(x, values, bias, _index(rest), rest[-1])


def _bsr_linear_backward_input(gy: Tensor, values: Tensor, *rest: Any) -> Tensor:
    _check_sites("gy", gy, rest[0])
    return passes.bsr_linear_backward_input(gy, values, _index(rest), rest[-1])


def _bsr_linear_backward_weight(gy: Tensor, x: Tensor, *rest: Any) -> Tensor:
    _check_sites("gy", gy, rest[0])
    _check_sites("x", x, rest[2])
    return passes.bsr_linear_backward_weight(gy, x, _index(rest), rest[-1])


def _bsr_linear_backward_weight_sgd(
    values: Tensor,
    momentum_buffer: Tensor | None,
    gy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    *rest: Any,
) -> None:
    _check_sites("gy", gy, rest[0])
    _check_sites("x", x, rest[2])
    rule = SGD(lr, momentum, weight_decay, nesterov)
    passes.bsr_linear_backward_weight_sgd(values, momentum_buffer, gy, x, mask, rule, _index(rest), rest[-1])


def _check_sites(name: str, x: Tensor, pointers: Tensor) -> None:
    if x.dim() != 3 or x.size(1) != pointers.size(0) - 1:
        raise ValueError(f"{name} must have the shape (N, {pointers.size(0) - 1} sites, channels), got {tuple(x.shape)}")


def _index(rest: tuple[Any, ...]) -> Index:
    crow, col, tcrow, tcol, tblock, _ = rest
    return Index(crow, col, tcrow, tcol, tblock, None)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, *rest = inputs
    if len(rest) == 7:
        rest = rest[1:]
    ctx.save_for_backward(a, b, *rest[:-1])
    ctx.backend = rest[-1]


def _bsr_linear_backward(ctx: Any, gy: Tensor) -> tuple[Any, ...]:
    x, values, *index = ctx.saved_tensors
    needs_x, needs_values, needs_bias, *_ = ctx.needs_input_grad
    gx = _ops.bsr_linear_backward_input(gy, values, *index, ctx.backend) if needs_x else None
    gvalues = _ops.bsr_linear_backward_weight(gy, x, *index, ctx.backend) if needs_values else None
    gbias = passes.sum_over_batch(gy) if needs_bias else None
    return gx, gvalues, gbias, *(None,) * 6


def _backward_input_backward(ctx: Any, ggx: Tensor) -> tuple[Any, ...]:
    gy, values, *index = ctx.saved_tensors
    needs_gy, needs_values, *_ = ctx.needs_input_grad
    ggy = _ops.bsr_linear(ggx, values, None, *index, ctx.backend) if needs_gy else None
    gvalues = _ops.bsr_linear_backward_weight(gy, ggx, *index, ctx.backend) if needs_values else None
    return ggy, gvalues, *(None,) * 6


def _backward_weight_backward(ctx: Any, ggvalues: Tensor) -> tuple[Any, ...]:
    gy, x, *index = ctx.saved_tensors
    needs_gy, needs_x, *_ = ctx.needs_input_grad
    ggy = _ops.bsr_linear(x, ggvalues, None, *index, ctx.backend) if needs_gy else None
    gx = _ops.bsr_linear_backward_input(gy, ggvalues, *index, ctx.backend) if needs_x else None
    return ggy, gx, *(None,) * 6


for _name, _compute, _shape, _derivative in (
    ("bsr_linear", _bsr_linear, _bsr_linear_out, _bsr_linear_backward),
    ("bsr_linear_backward_input", _bsr_linear_backward_input, _backward_input_out, _backward_input_backward),
    ("bsr_linear_backward_weight", _bsr_linear_backward_weight, _backward_weight_out, _backward_weight_backward),
):
    for _device in ("CPU", "CUDA"):
        _library.impl(_name, _compute, _device)
    torch.library.register_fake(f"efcn::{_name}", _shape, lib=_library)
    torch.library.register_autograd(f"efcn::{_name}", _derivative, setup_context=_setup_context, lib=_library)
for _device in ("CPU", "CUDA"):
    _library.impl("bsr_linear_backward_weight_sgd", _bsr_linear_backward_weight_sgd, _device)
torch.library.register_fake("efcn::bsr_linear_backward_weight_sgd", lambda *_: None, lib=_library)
