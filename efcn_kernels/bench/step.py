"""One training step of one layer: what is timed, and the answers that it gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from efcn_kernels.bench.cases import Case
from efcn_kernels.cost.model import Work, work
from efcn_kernels.nn import LocallyConnected2d
from efcn_kernels.ops import batch_last, dispatch, schema
from efcn_kernels.pattern.layout import BlockLayout
from efcn_kernels.pattern.sites import to_sites

Step = Callable[[], object]

# how images may lie in memory
ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch-last": batch_last,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "NCHW": torch.Tensor.contiguous,
}


class Answers(NamedTuple):
    """What a step computes: y (N, C, H, W), gx like x, gvalues (nnzb, Co, Ci) on the whole layout, gbias (P, Co)."""

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
    def make(cls, case: Case, batch: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Ours:
        """The case with random weights and `batch` random images (N, C, H, W), contiguous."""
        conv = case.conv(dtype).to(device)
        layer = case.layer(conv)
        x = torch.randn(batch, case.in_channels, *case.size, dtype=dtype, device=device)
        gy = torch.randn(batch, case.out_channels, *case.geometry.output_size, dtype=dtype, device=device)
        if layer.off_weight is not None:
            # the zeros that they start with would hide a wrong product
            nn.init.normal_(layer.off_weight, std=layer.layout.in_features**-0.5)
        positive = copy.deepcopy(layer)
        with torch.no_grad():
            for parameter in positive.parameters():
                parameter.abs_()
        return cls(case, conv, layer, x, gy, _answers(layer, x, gy), _answers(positive, x.abs(), gy.abs()))

    @property
    def values(self) -> Tensor:
        """(nnzb, Co, Ci): the weights of all blocks, local and off-local, in the order of the layout."""
        return whole(self.layer.layout, [weights.detach() for weights, _ in self.layer._parts()])

    def step(self, order: str = "batch-last", *, grad_input: bool = True, backend: str | None = None) -> Step:
        """Forward and all gradients on images in an order of ORDERS, or without the gradient of the images; backend None: the automatic one."""
        layer, x, gy = self.layer, ORDERS[order](self.x), ORDERS[order](self.gy)
        if backend is None:
            return lambda: gradients(layer, x, gy, grad_input=grad_input)

        def step() -> tuple[Tensor, ...]:
            with dispatch.forced_backend(backend):
                return gradients(layer, x, gy, grad_input=grad_input)

        return step

    def passes(self, order: str = "batch-last", backend: str = "auto") -> dict[str, Step]:
        """Each pass alone on images in an order of ORDERS, without autograd around it."""
        layer, ops = self.layer, schema._ops
        bias = None if layer.bias is None else layer.bias.detach()
        # off-local weights are a product of their own, and what it gives is added
        parts = [(w.detach(), b, (*part.index(self.x.device)[:-1], backend)) for (w, part), b in zip(layer._parts(), (bias, None))]
        x, gy = (self.sites(t, order) for t in (self.x, self.gy))
        return {
            "forward": lambda: reduce(torch.add, [ops.bsr_linear(x, values, b, *index) for values, b, index in parts]),
            "grad_input": lambda: reduce(torch.add, [ops.bsr_linear_backward_input(gy, values, *index) for values, _, index in parts]),
            "grad_weight": lambda: [ops.bsr_linear_backward_weight(gy, x, *index) for _, _, index in parts],
        }

    def sites(self, images: Tensor, order: str = "batch-last") -> Tensor:
        """(N, sites, channels of a group) from images (N, C, H, W) or their gradients; a view where the order has one."""
        return to_sites(ORDERS[order](images).flatten(2), self.layer.layout.groups)

    @property
    def work(self) -> Work:
        """FLOP and bytes of one pass."""
        return work(self.layer.layout, self.x.size(0), self.x.element_size())


class Competitor(Protocol):
    """What one would use instead of the layer. variants: one step by the name of each way to run it; the fastest counts.

    local_only: it has no weights outside the convolution's window.
    """

    local_only: bool
    variants: Mapping[str, Step]

    def compare(self, ours: Ours) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """(theirs, ours, scale) of each answer, all in one form."""


def gradients(module: nn.Module, x: Tensor, gy: Tensor, *, grad_input: bool = True) -> tuple[Tensor, ...]:
    """(y, gx, gradients of the parameters): forward, grad-input, grad-weight and grad-bias through autograd; gx is optional."""
    leaf = x.detach().requires_grad_(grad_input)
    y = module(leaf)
    wanted = (leaf, *module.parameters()) if grad_input else tuple(module.parameters())
    return (y.detach(), *torch.autograd.grad(y, wanted, gy))


def whole(layout: BlockLayout, parts: Sequence[Tensor]) -> Tensor:
    """(nnzb, Co, Ci) in the order of the layout, from the local and, where there are any, the off-local blocks."""
    if len(parts) == 1:
        return parts[0]
    values = parts[0].new_empty((layout.nnzb, *layout.block))
    local = torch.tensor(layout.local, device=values.device)
    values[local], values[~local] = parts
    return values


def _answers(layer: LocallyConnected2d, x: Tensor, gy: Tensor) -> Answers:
    y, gx, *gweights, gbias = gradients(layer, batch_last(x), batch_last(gy))
    return Answers(y, gx, whole(layer.layout, gweights), gbias)
