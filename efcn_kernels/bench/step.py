"""One training step of one layer: what is timed, and the answers that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from efcn_kernels.bench.cases import Case
from efcn_kernels.nn import LocallyConnected2d
from efcn_kernels.ops import batch_last, schema

Step = Callable[[], object]


class Answers(NamedTuple):
    """What a step computes: y (N, C, H, W), gx like x, gvalues (nnzb, Co, Ci), gbias (P, Co)."""

    y: Tensor
    gx: Tensor
    gvalues: Tensor
    gbias: Tensor


class Ours(NamedTuple):
    """The layer under test with its data.

    absolute: the answers with |x|, |values| and |gy| in the place of x, values and gy: the scale of rounding errors.
    """

    case: Case
    conv: nn.Conv2d
    layer: LocallyConnected2d
    x: Tensor
    gy: Tensor
    answers: Answers
    absolute: Answers

    @classmethod
    def make(cls, case: Case, batch: int, dtype: torch.dtype) -> Ours:
        """The case with random weights and `batch` random images (N, C, H, W), contiguous."""
        conv = case.conv(dtype)
        layer = case.layer(conv)
        x = torch.randn(batch, case.in_channels, *case.size, dtype=torch.float64).to(dtype)
        gy = torch.randn(batch, case.out_channels, *case.geometry.output_size, dtype=torch.float64).to(dtype)
        positive = case.layer(conv)
        with torch.no_grad():
            for parameter in positive.parameters():
                parameter.abs_()
        answers = Answers(*gradients(layer, batch_last(x), batch_last(gy)))
        absolute = Answers(*gradients(positive, batch_last(x.abs()), batch_last(gy.abs())))
        return cls(case, conv, layer, x, gy, answers, absolute)

    def step(self, *, contiguous: bool = False) -> Step:
        """Forward and all gradients on batch-last images, or on contiguous ones."""
        x, gy = (self.x, self.gy) if contiguous else (batch_last(self.x), batch_last(self.gy))
        layer = self.layer
        return lambda: gradients(layer, x, gy)

    def passes(self) -> dict[str, Step]:
        """Each pass alone on batch-last images, without autograd around it."""
        layer, ops = self.layer, schema._ops
        index = (*layer.layout.index(self.x.device)[:-1], "auto")
        values, bias = layer.values.detach(), None if layer.bias is None else layer.bias.detach()
        x, gy = (_sites(t, layer.layout.groups) for t in (self.x, self.gy))
        return {
            "forward": lambda: ops.bsr_linear(x, values, bias, *index),
            "grad_input": lambda: ops.bsr_linear_backward_input(gy, values, *index),
            "grad_weight": lambda: ops.bsr_linear_backward_weight(gy, x, *index),
        }

    @property
    def pass_flop(self) -> int:
        """Floating-point operations of one pass: 2 for each live weight and image."""
        return 2 * self.layer.layout.nnz * self.x.size(0)


class Competitor(Protocol):
    """What one would use instead of the layer. variants: one step by the name of each way to run it; the fastest counts."""

    variants: Mapping[str, Step]

    def compare(self, ours: Ours) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """(theirs, ours, scale) of each answer, all in one form."""


def gradients(module: nn.Module, x: Tensor, gy: Tensor) -> tuple[Tensor, ...]:
    """(y, gx, gradients of the parameters): forward, grad-input, grad-weight and grad-bias through autograd."""
    leaf = x.detach().requires_grad_()
    y = module(leaf)
    return (y.detach(), *torch.autograd.grad(y, (leaf, *module.parameters()), gy))


def _sites(x: Tensor, groups: int) -> Tensor:
    """(N, sites, channels of a group), batch-last, from (N, C, H, W)."""
    flat = batch_last(x).flatten(2)
    return flat.view(x.size(0), groups, -1, flat.size(2)).permute(0, 3, 1, 2).flatten(1, 2)
