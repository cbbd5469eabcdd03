"""The block-sparse linear map and its passes, on whichever backend takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from efcn_kernels.ops import dispatch, fused, schema
from efcn_kernels.ops.backends import cpu
from efcn_kernels.ops.backends.cpu import prefer_large_pages
from efcn_kernels.ops.memory import batch_last
from efcn_kernels.pattern import csr
from efcn_kernels.pattern.layout import BlockLayout

__all__ = ["batch_last", "bsr_linear", "build_info", "prefer_large_pages"]


def bsr_linear(x: Tensor, values: Tensor, layout: BlockLayout, bias: Tensor | None = None, *, backend: str | None = None) -> Tensor:
    """y[n, p, :] = bias[p, :] + sum over blocks (p, q) of values[block] @ x[n, q, :].

    Args:
        x: (N, Q, Ci), any strides; the output lies in memory as x does.
        values: (nnzb, Co, Ci), in the order of the layout's blocks.
        layout: the pattern.
        bias: (P, Co) or None.
        backend: "cpu", "cuda", "triton" or "reference"; None takes the first that does not refuse, of those that are proven.

    Returns y (N, P, Co). Differentiable twice and more by torch.autograd (create_graph=True), not by torch.func.grad, vjp and jacrev: torch's
    custom operators refuse them. Under autocast it computes in autocast's dtype.
    Raises ValueError for shapes, dtypes or devices that do not fit, RuntimeError where a named backend refuses.
    """
    _check(x, values, layout, bias)
    if _autocasting(x):
        low = torch.get_autocast_dtype(x.device.type)
        x, values, bias = _cast(x, low), _cast(values, low), None if bias is None else _cast(bias, low)
    index = layout.index(x.device)
    if (claim := fused.claim_on(values)) is not None:
        return fused.bsr_linear(x, values, bias, index, backend or "auto", claim)
    if index.mask is not None:
        values = values * index.mask
    y: Tensor = schema._ops.bsr_linear(x, values, bias, *index[:-1], backend or "auto")
    return y


def build_info() -> dict[str, Any]:
    """What is compiled in, which instruction set runs, and why each missing part is missing."""
    from efcn_kernels import __version__

    return {
        "version": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "backends": {name: dispatch.get(name).state for name in dispatch.NAMES},
        "isa": None if cpu.missing() else _isa_or_reason(),
        "isas": cpu.isas(),
        "csr": csr.why_not_compiled or "compiled",
    }


def _isa_or_reason() -> str:
    try:
        return cpu.isa()
    except RuntimeError as error:
        return str(error)


def _check(x: Tensor, values: Tensor, layout: BlockLayout, bias: Tensor | None) -> None:
    co, ci = layout.block
    if x.dim() != 3 or x.shape[1:] != (layout.in_sites, ci):
        raise ValueError(f"x must have the shape (N, Q, Ci) = (N, {layout.in_sites}, {ci}), got {tuple(x.shape)}")
    if values.shape != (layout.nnzb, co, ci):
        raise ValueError(f"values must have the shape (nnzb, Co, Ci) = {(layout.nnzb, co, ci)}, got {tuple(values.shape)}")
    if bias is not None and bias.shape != (layout.out_sites, co):
        raise ValueError(f"bias must have the shape (P, Co) = {(layout.out_sites, co)}, got {tuple(bias.shape)}")
    for name, other in (("values", values), ("bias", bias)):
        if other is None:
            continue
        if other.device != x.device:
            raise ValueError(f"x and {name} must be on one device, got {x.device} and {other.device}")
        if other.dtype != x.dtype and not _autocasting(x):
            raise ValueError(f"x and {name} must have one dtype, got {x.dtype} and {other.dtype}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"x must be floating point, got {x.dtype}")


def _autocasting(x: Tensor) -> bool:
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == torch.float64 else x.to(dtype)
