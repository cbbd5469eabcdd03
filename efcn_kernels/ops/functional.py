"""The block-sparse linear map on sites and on feature maps, on whichever backend takes it."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from efcn_kernels.ops import autograd, internals, schema
from efcn_kernels.ops.fused import claim_on
from efcn_kernels.ops.memory import owned
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sites import to_images, to_sites

_PLAIN = (Tensor, torch.nn.Parameter)


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

    >>> layout = BlockLayout.full(out_sites=3, in_sites=2, block=(4, 5))
    >>> bsr_linear(torch.ones(7, 2, 5), torch.ones(layout.nnzb, 4, 5), layout).shape
    torch.Size([7, 3, 4])
    """
    if x.dim() != 3 or x.shape[1:] != (layout.in_sites, layout.block[1]):
        raise ValueError(f"x must have the shape (N, Q, Ci) = (N, {layout.in_sites}, {layout.block[1]}), got {tuple(x.shape)}")
    x, values, bias = _fitting(x, values, layout, bias)
    index = layout.index(x.device)
    if _plain(x, values, bias):
        return _enter(x, values, bias, autograd.Call(index, backend or "auto", claim_on(values)))
    return schema.bsr_linear(x, index.masked(values), bias, index, backend or "auto")


def bsr_map(x: Tensor, weight: Tensor, layout: BlockLayout, output_size: tuple[int, ...], bias: Tensor | None = None) -> Tensor:
    """The same on feature maps: x (N, C, *input_size) -> (N, C', *output_size), positions times groups being the layout's sites.

    The output lies in memory as x does; with groups it is batch-last, for only then it has one stride for each site.
    """
    # a layer's weights fit its layout, so what is left to see for an ordinary call are the types
    if not (x.dtype is weight.dtype and x.device == weight.device) or _autocasting(x):
        x, weight, bias = _fitting(x, weight, layout, bias)
    index, groups = layout.index(x.device), layout.groups
    if _plain(x, weight, bias):
        return _enter(x, weight, bias, autograd.Call(index, "auto", claim_on(weight), groups, output_size))
    sites = to_sites(x.flatten(2), groups)
    return owned(to_images(schema.bsr_linear(sites, index.masked(weight), bias, index, "auto"), groups).unflatten(2, output_size))


def _enter(x: Tensor, values: Tensor, bias: Tensor | None, call: autograd.Call) -> Tensor:
    if not torch.is_grad_enabled():
        return autograd.forward(x, values, bias, call)
    y: Tensor = autograd.BsrLinear.apply(x, values, bias, call)  # type: ignore[no-untyped-call]
    return y


def _plain(x: Tensor, values: Tensor, bias: Tensor | None) -> bool:
    """Whether this is an ordinary call on ordinary tensors, in which nobody wants to see operators."""
    ordinary = type(x) in _PLAIN and type(values) in _PLAIN and (bias is None or type(bias) in _PLAIN)
    return ordinary and not x.is_meta and not internals.transforming()


def _fitting(x: Tensor, values: Tensor, layout: BlockLayout, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The operands, in autocast's dtype where it is on. Raises ValueError where they do not fit together."""
    nnzb, (co, ci) = layout.nnzb, layout.block
    if values.shape != (nnzb, co, ci):
        raise ValueError(f"values must have the shape (nnzb, Co, Ci) = {(nnzb, co, ci)}, got {tuple(values.shape)}")
    if bias is not None and bias.shape != (layout.out_sites, co):
        raise ValueError(f"bias must have the shape (P, Co) = {(layout.out_sites, co)}, got {tuple(bias.shape)}")
    dtype, device, casting = x.dtype, x.device, _autocasting(x)
    if values.device != device or (bias is not None and bias.device != device):
        _differ("device", x, values, bias)
    if not casting and (values.dtype != dtype or (bias is not None and bias.dtype != dtype)):
        _differ("dtype", x, values, bias)
    if not dtype.is_floating_point:
        raise ValueError(f"x must be floating point, got {dtype}")
    if casting:
        low = torch.get_autocast_dtype(device.type)
        return _cast(x, low), _cast(values, low), None if bias is None else _cast(bias, low)
    return x, values, bias


def _differ(what: str, x: Tensor, values: Tensor, bias: Tensor | None) -> NoReturn:
    mine = getattr(x, what)
    name, other = next((n, getattr(t, what)) for n, t in (("values", values), ("bias", bias)) if t is not None and getattr(t, what) != mine)
    raise ValueError(f"x and {name} must {'be on one device' if what == 'device' else 'have one dtype'}, got {mine} and {other}")


def _autocasting(x: Tensor) -> bool:
    kind = "cpu" if x.is_cpu else x.device.type
    return torch.is_autocast_enabled(kind) if kind == "cpu" or torch.amp.is_autocast_available(kind) else False


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == torch.float64 else x.to(dtype)
