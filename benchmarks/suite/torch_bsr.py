"""torch's own block-sparse product, which its BSR tensors use on GPUs (torch.sparse._triton_ops): forward and grad-input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.suite.checks import check_pass
from efcn_kernels.bench.run import WrongAnswer
from efcn_kernels.bench.step import Ours, Step

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def refuse(ours: Ours) -> str | None:
    """Why torch's kernels do not take the layer, or None."""
    block, batch, dtype = ours.layer.layout.block, ours.x.size(0), ours.x.dtype
    if ours.x.device.type != "cuda":
        return f"computes on GPUs only, got {ours.x.device}"
    if any(size < 16 or size & (size - 1) for size in block):
        return f"takes blocks of powers of 2 from 16 on, got {block}"
    if batch % 16:
        return f"takes multiples of 16 images, got {batch}"
    return None if dtype in _DTYPES else f"computes {', '.join(map(str, _DTYPES))}, got {dtype}"


def passes(ours: Ours, operands: float) -> dict[str, Step] | str:
    """The passes that it has, their answers checked, or why it has none. Raises WrongAnswer."""
    if (reason := refuse(ours)) is not None:
        return reason
    from torch.sparse._triton_ops import bsr_dense_mm

    steps = {name: step(bsr_dense_mm) for name, step in products(ours).items()}
    try:
        for name, step in steps.items():
            check_pass("torch BSR", name, in_our_form(ours, name, step()), ours, operands)
    except WrongAnswer as error:
        return f"disagrees: {error}"
    except Exception as error:
        # these kernels are not torch's public interface: whatever they raise is theirs
        return f"fails: {type(error).__name__}: {error}"
    return steps


def products(ours: Ours) -> dict[str, Callable[[Callable[[Tensor, Tensor], Tensor]], Step]]:
    """By pass what to do with a product of a BSR tensor and a dense matrix; batch-last images are such a matrix (sites and channels, N)."""
    layout = ours.layer.layout
    index = layout.index(ours.x.device)
    weight = _bsr(index.crow, index.col, ours.values, layout.in_sites)
    turned = _bsr(index.tcrow, index.tcol, ours.values[index.tblock.long()].transpose(1, 2).contiguous(), layout.out_sites)
    x, gy = (ours.sites(t).permute(1, 2, 0).flatten(0, 1) for t in (ours.x, ours.gy))
    return {"forward": lambda product: lambda: product(weight, x), "grad_input": lambda product: lambda: product(turned, gy)}


def in_our_form(ours: Ours, name: str, got: object) -> Tensor:
    """(N, sites, channels) from a product (sites and channels, N); the bias, which it lacks, is added."""
    assert isinstance(got, Tensor)
    layout = ours.layer.layout
    sites = got.unflatten(0, (-1, layout.block[0 if name == "forward" else 1])).permute(2, 0, 1)
    return sites if name == "grad_input" or ours.layer.bias is None else torch.add(sites, ours.layer.bias.detach())


def _bsr(crow: Tensor, col: Tensor, values: Tensor, sites: int) -> Tensor:
    """(rows of blocks, sites of blocks)."""
    shape = ((crow.numel() - 1) * values.size(1), sites * values.size(2))
    bsr: Tensor = torch.sparse_bsr_tensor(crow, col, values, shape, check_invariants=False)
    return bsr
