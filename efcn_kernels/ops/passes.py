"""The three passes on the backend that takes them, without autograd: allocate the result, compute it.

y[n, p, :]  = bias[p, :] + sum over blocks (p, q) of values[block] @ x[n, q, :]
gx[n, q, :] = sum over blocks (p, q) of values[block]^T @ gy[n, p, :]
gvalues[b]  = sum over n of gy[n, p, :] outer x[n, q, :]
"""

from __future__ import annotations

from torch import Tensor

from efcn_kernels.ops.dispatch import Problem, implementation
from efcn_kernels.ops.memory import empty_like_order
from efcn_kernels.ops.sgd import SGD
from efcn_kernels.pattern.index import Index


def bsr_linear(x: Tensor, values: Tensor, bias: Tensor | None, index: Index, backend: str, out: Tensor | None = None) -> Tensor:
    """y (N, P, Co) from x (N, Q, Ci), values (nnzb, Co, Ci) and bias (P, Co) or None; into `out` where it is given."""
    y = bsr_linear_out(x, values, index.crow) if out is None else out
    implementation(backend, Problem("bsr_linear", x.device, x.dtype))(y, x, values, bias, index)
    return y


def bsr_linear_backward_input(gy: Tensor, values: Tensor, index: Index, backend: str) -> Tensor:
    """gx (N, Q, Ci) from gy (N, P, Co) and values (nnzb, Co, Ci)."""
    gx = backward_input_out(gy, values, index.tcrow)
    implementation(backend, Problem("bsr_linear_backward_input", gy.device, gy.dtype))(gx, gy, values, index)
    return gx


def bsr_linear_backward_weight(gy: Tensor, x: Tensor, index: Index, backend: str) -> Tensor:
    """gvalues (nnzb, Co, Ci) from gy (N, P, Co) and x (N, Q, Ci)."""
    gvalues = backward_weight_out(gy, x, index.col)
    implementation(backend, Problem("bsr_linear_backward_weight", gy.device, gy.dtype))(gvalues, gy, x, index)
    return gvalues


def bsr_linear_backward_weight_sgd(
    values: Tensor, momentum_buffer: Tensor | None, gy: Tensor, x: Tensor, mask: Tensor | None, rule: SGD, index: Index, backend: str
) -> None:
    """A step of SGD on values and momentum_buffer by that gradient, where `mask` is true."""
    compute = implementation(backend, Problem("bsr_linear_backward_weight_sgd", gy.device, gy.dtype))
    compute(values, momentum_buffer, gy, x, mask, rule, index)


def bsr_linear_out(x: Tensor, values: Tensor, crow: Tensor) -> Tensor:
    """Uninitialised, in the memory order of x."""
    return empty_like_order(x, (x.size(0), crow.size(0) - 1, values.size(1)))


def backward_input_out(gy: Tensor, values: Tensor, tcrow: Tensor) -> Tensor:
    """Uninitialised, in the memory order of gy."""
    return empty_like_order(gy, (gy.size(0), tcrow.size(0) - 1, values.size(2)))


def backward_weight_out(gy: Tensor, x: Tensor, col: Tensor) -> Tensor:
    """Uninitialised, contiguous."""
    return gy.new_empty((col.size(0), gy.size(2), x.size(2)))


def sum_over_batch(gy: Tensor) -> Tensor:
    """The gradient (P, Co) of the bias."""
    # in memory order torch sums whole rows; across it, ten times slower (NCHW, N = 250, 64 x 17 x 17: 0.6 against 5.9 ms)
    return gy.transpose(1, 2).sum(dim=0).T if gy.stride(1) < gy.stride(2) else gy.sum(dim=0)
