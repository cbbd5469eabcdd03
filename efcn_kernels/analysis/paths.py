"""Ways from one network to another of the same shape: is there a barrier between them?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# (network, number of the step) -> the loss to be differentiated
Loss = Callable[[nn.Module, int], Tensor]


def linear(a: nn.Module, b: nn.Module, t: float) -> nn.Module:
    """The network with the weights (1 - t) a + t b."""
    return _like(a, [torch.lerp(p, q, t) for p, q in _pairs(a, b)])


def curvilinear(a: nn.Module, b: nn.Module, t: float) -> nn.Module:
    """The network between `a` and `b` whose direction and norm are interpolated apart.

        ((1 - t) |a| + t |b|) u / |u|,    u = (1 - t) a / |a| + t b / |b|

    Norms are those of all weights together. The straight way passes through smaller norms, where a network is another function; this
    one does not. Raises ValueError for networks without weights or opposite to each other at t = 1/2.
    """
    pairs = _pairs(a, b)
    first, second = (_norm(side) for side in zip(*pairs))
    if not min(first, second) > 0:
        raise ValueError(f"a direction needs a positive norm, got networks of norms {first} and {second}")
    mixed = [torch.add((1 - t) / first * p, q, alpha=t / second) for p, q in pairs]
    length = _norm(mixed)
    if not length > 0:
        raise ValueError(f"the two networks are opposite to each other, so there is no direction at t = {t}")
    return _like(a, [u * (((1 - t) * first + t * second) / length) for u in mixed])


def string(
    a: nn.Module, b: nn.Module, loss: Loss, *, points: int = 5, stiffness: float = 0.3, learning_rate: float = 0.01, steps: int = 100
) -> list[nn.Module]:
    """A string of `points` networks from `a` to `b`, ends included and fixed, relaxed under the loss and an elastic force.

        x_i <- x_i - learning_rate * grad loss(x_i),    then    x_i <- x_i + stiffness * (x_(i-1) - 2 x_i + x_(i+1))

    It starts straight. All points move at once, so a stiffness of 0.5 or more lets neighbours swing against each other without end:
    ValueError. The forces take turns, for together they overshoot where a training's learning rate alone just does not (a trained eLCN's
    string: loss 0.6 to 2.0 in ten steps). Ends are `a` and `b` themselves. Source: d'Ascoli et al. 2019; Jonsson et al. 1998.
    """
    if points < 3 or not 0 <= stiffness < 0.5 or steps < 0:
        raise ValueError(
            f"points={points}, stiffness={stiffness}, steps={steps}: expected 3 points or more, 0 <= stiffness < 0.5, and no negative steps"
        )
    chain = [a, *(linear(a, b, i / (points - 1)) for i in range(1, points - 1)), b]
    inner = range(1, points - 1)
    for step in range(steps):
        for i in inner:
            weights: list[Tensor] = list(chain[i].parameters())
            gradients = torch.autograd.grad(loss(chain[i], step), weights)
            with torch.no_grad():
                torch._foreach_add_(weights, gradients, alpha=-learning_rate)
        with torch.no_grad():
            bends = [[stiffness * (p - 2 * x + q) for p, x, q in zip(*(n.parameters() for n in chain[i - 1 : i + 2]))] for i in inner]
            for i, bend in zip(inner, bends):
                torch._foreach_add_(list(chain[i].parameters()), bend)
    return chain


class Averaged(nn.Module):
    """The outputs of two networks averaged, (1 - t) a(x) + t b(x): what a way through function space would reach."""

    def __init__(self, a: nn.Module, b: nn.Module, t: float) -> None:
        super().__init__()
        self.a, self.b, self.t = a, b, t

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(self.a(x), self.b(x), self.t)


def _pairs(a: nn.Module, b: nn.Module) -> list[tuple[Tensor, Tensor]]:
    shapes = [{name: tuple(p.shape) for name, p in network.named_parameters()} for network in (a, b)]
    if shapes[0] != shapes[1]:
        different = sorted(name for name in {*shapes[0], *shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(f"the networks differ in {', '.join(different)}: expected two with the same parameters, mapped to the same support")
    return [(p.detach(), q.detach()) for p, q in zip(a.parameters(), b.parameters())]


def _like(network: nn.Module, weights: list[Tensor]) -> nn.Module:
    """A copy of `network` with these weights in the order of its parameters."""
    memo = {id(p): nn.Parameter(w, p.requires_grad) for p, w in zip(network.parameters(), weights)}
    made: nn.Module = copy.deepcopy(network, dict(memo))
    return made


def _norm(weights: Sequence[Tensor]) -> float:
    return float(torch.stack([torch.linalg.vector_norm(w, dtype=torch.float64) for w in weights]).norm())
