"""Weights that are updated inside grad-weight: who claims them, and the bsr_linear whose backward does it.

A gradient is applied at once only where it is the whole gradient of the step: the weight is used once, nothing lies in
`.grad`, no hook wants to see it, and no graph of the backward is asked for. In every other case it takes the ordinary way
into `.grad`, for the optimizer's step() to apply.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from efcn_kernels.ops import schema
from efcn_kernels.ops.sgd import SGD
from efcn_kernels.pattern.index import Index


class Updater(Protocol):
    """The optimizer, as grad-weight sees it."""

    def fuses(self, weights: Tensor) -> bool:
        """Whether gradients of these weights are to be applied as they arise."""

    def update_of(self, weights: Tensor) -> tuple[SGD, Tensor | None]:
        """The step as of now and the momentum buffer."""


class Claim:
    """An optimizer's claim on one parameter; it holds as long as the optimizer keeps it, or until another one is made.

    applied: grad-weight has updated the weights and the optimizer's step() is still to come.
    """

    def __init__(self, optimizer: Updater, weights: Tensor) -> None:
        self.weights, self.applied = weights, False
        self._optimizer = weakref.ref(optimizer)
        self._uses: weakref.WeakSet[_Use] = weakref.WeakSet()
        _claims[weights] = weakref.ref(self)

    def holds(self) -> bool:
        """Whether no later claim was made."""
        return _find(self.weights) is self

    def updater(self) -> Updater | None:
        """The optimizer, or None where it is gone or wants ordinary gradients."""
        optimizer = self._optimizer()
        return optimizer if optimizer is not None and optimizer.fuses(self.weights) else None

    def use(self) -> _Use:
        """A new use in a graph; with another one still to come, both are shared."""
        use = _Use()
        use.shared = len(self._uses) > 0
        # a forward inside a backward is a checkpoint's: it repeats a use, or is followed by its own backward at once
        if torch._C._current_graph_task_id() == -1:
            for other in self._uses:
                other.shared = True
            self._uses.add(use)
        return use

    def done(self, use: _Use) -> None:
        """Its graph will not run again."""
        self._uses.discard(use)


class _Use:
    shared = False


_claims: Any = WeakTensorKeyDictionary()


def _find(weights: Tensor) -> Claim | None:
    found = _claims.get(weights)
    return None if found is None else found()


def claim_on(values: Tensor) -> Claim | None:
    """The claim on a parameter of which this use may be fused, or None. What torch.compile traces is not fused."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not values.requires_grad:
        return None
    claim = _find(values)
    return None if claim is None or claim.updater() is None else claim


def bsr_linear(x: Tensor, values: Tensor, bias: Tensor | None, index: Index, backend: str, claim: Claim) -> Tensor:
    """As `efcn::bsr_linear`, for values that are claimed; the mask of the index included."""
    y: Tensor = _BsrLinear.apply(x, values, bias, index, backend, claim)  # type: ignore[no-untyped-call]
    return y


class _BsrLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, index: Index, backend: str, claim: Claim) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.index, ctx.rest, ctx.claim, ctx.use = index, (*index[:-1], backend), claim, claim.use()
        y: Tensor = schema._ops.bsr_linear(x, _masked(values, index), bias, *ctx.rest)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        claim, use, rest = ctx.claim, ctx.use, ctx.rest
        needs_x, needs_values, needs_bias, *_ = ctx.needs_input_grad
        wanted = _wanted(ctx.next_functions[1][0]) if needs_values else None
        if wanted and claim.applied:
            claim.done(use)
            raise RuntimeError(
                "a second backward reaches weights that the first one has updated: with EFCNSGD(fused=True) call step() after each backward; "
                "to add up gradients of several, set fused=False"
            )
        # a graph of this backward uses the weights once more
        use.shared |= torch.is_grad_enabled()
        x, values = ctx.saved_tensors
        # first, for it reads the weights as they are
        gx = schema._ops.bsr_linear_backward_input(gy, _masked(values, ctx.index), *rest) if needs_x else None
        gbias = schema._sum_over_batch(gy) if needs_bias else None
        gvalues = None
        if wanted:
            updater = claim.updater() if wanted == "accumulated" and not use.shared and not _watched(claim.weights) else None
            if updater is None:
                gvalues = _masked(schema._ops.bsr_linear_backward_weight(gy, x, *rest), ctx.index)
            else:
                _apply(updater, claim, gy, x, ctx.index.mask, rest)
        if claim.applied or not torch._C._autograd._get_current_graph_task_keep_graph():
            claim.done(use)
        return gx, gvalues, gbias, None, None, None


def _apply(updater: Updater, claim: Claim, gy: Tensor, x: Tensor, mask: Tensor | None, rest: tuple[Any, ...]) -> None:
    # the parameter itself: what was saved of it may be a copy
    rule, buffer = updater.update_of(claim.weights)
    schema._ops.bsr_linear_backward_weight_sgd(claim.weights.detach(), buffer, gy, x, mask, *rule, *rest)
    torch.autograd.graph.increment_version(claim.weights)
    claim.applied = True


def _wanted(accumulate: Any) -> str | None:
    """What this backward does with the gradient of the leaf: "accumulated" in `.grad`, "returned" by autograd.grad, or None."""
    try:
        return "accumulated" if torch._C._will_engine_execute_node(accumulate) else None
    except RuntimeError:
        # torch's answer for a leaf that autograd.grad was given
        return "returned"


def _watched(weights: Tensor) -> bool:
    return weights.grad is not None or bool(weights._backward_hooks or weights._post_accumulate_grad_hooks)


def _masked(values: Tensor, index: Index) -> Tensor:
    return values if index.mask is None else values * index.mask
