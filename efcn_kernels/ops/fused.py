"""Weights that are updated inside grad-weight: who claims them, and when their gradient may be applied at once.

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

from efcn_kernels.ops import internals, passes
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
        self._uses: weakref.WeakSet[Use] = weakref.WeakSet()
        _claims[weights] = weakref.ref(self)

    def holds(self) -> bool:
        """Whether no later claim was made."""
        return _find(self.weights) is self

    def updater(self) -> Updater | None:
        """The optimizer, or None where it is gone or wants ordinary gradients."""
        optimizer = self._optimizer()
        return optimizer if optimizer is not None and optimizer.fuses(self.weights) else None

    def use(self) -> Use:
        """A new use in a graph; with another one still to come, both are shared."""
        use = Use()
        use.shared = len(self._uses) > 0
        # a forward inside a backward is a checkpoint's: it repeats a use, or is followed by its own backward at once
        if not internals.in_backward():
            for other in self._uses:
                other.shared = True
            self._uses.add(use)
        return use

    def wants_gradient(self, use: Use, accumulate: Any) -> bool:
        """Whether this backward is to give a gradient of the weights, or to apply it. accumulate: the graph's node for them.

        Raises RuntimeError where an earlier backward has updated the weights that this one is to differentiate.
        """
        try:
            wanted, use.accumulated = internals.will_execute(accumulate), True
        except RuntimeError:
            # torch's answer for a leaf that autograd.grad was given: its gradient is returned
            wanted, use.accumulated = True, False
        if wanted and self.applied:
            self._uses.discard(use)
            raise RuntimeError(
                "a second backward reaches weights that the first one has updated: with EFCNSGD(fused=True) call step() after each backward; "
                "to add up gradients of several, set fused=False"
            )
        return wanted

    def step(self, use: Use, gy: Tensor, x: Tensor, index: Index, backend: str) -> bool:
        """Apply the gradient of gy and x (N, sites, channels) at once, where it is the whole one; whether that was done."""
        # a graph of this backward uses the weights once more
        use.shared |= torch.is_grad_enabled()
        updater = None if use.shared or not use.accumulated or _watched(self.weights) else self.updater()
        if updater is None:
            return False
        # the parameter itself: what was saved of it may be a copy
        rule, buffer = updater.update_of(self.weights)
        passes.bsr_linear_backward_weight_sgd(self.weights.detach(), buffer, gy, x, index.mask, rule, index, backend)
        torch.autograd.graph.increment_version(self.weights)
        self.applied = True
        return True

    def finish(self, use: Use) -> None:
        """The backward of this use is over."""
        use.shared |= torch.is_grad_enabled()
        if self.applied or not internals.keeps_graph():
            self._uses.discard(use)


class Use:
    """One use of the weights in a graph: whether there is another one, and whether its gradient goes into `.grad`."""

    shared = False
    accumulated = False


_claims: Any = WeakTensorKeyDictionary()


def _find(weights: Tensor) -> Claim | None:
    found = _claims.get(weights)
    return None if found is None else found()


def claim_on(values: Tensor) -> Claim | None:
    """The claim on a parameter of which this use may be fused, or None. What torch.compile traces is not fused."""
    if not _claims or not torch.is_grad_enabled() or not values.requires_grad or torch.compiler.is_compiling() or internals.why_not_fused():
        return None
    claim = _find(values)
    return None if claim is None or claim.updater() is None else claim


def _watched(weights: Tensor) -> bool:
    return weights.grad is not None or bool(weights._backward_hooks or weights._post_accumulate_grad_hooks)
