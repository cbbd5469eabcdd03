"""One layer on one batch: its passes through autograd, each compared with what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from efcn_kernels.nn import BlockSparse
from efcn_kernels.ops import batch_last
from efcn_kernels.verify.dense import Expected, ExpectedTwice, Weights, expected, expected_twice, weight_parameters
from efcn_kernels.verify.tolerance import Product

ORDERS = ("contiguous", "batch-last")
PASSES = ("matrix", "forward", "grad-input", "grad-weight", "grad-bias", "double backward")


class Batch(NamedTuple):
    """A batch and directions to differentiate in, flattened to (N, features), and what the layer should make of them."""

    x: Tensor
    gy: Tensor
    v: Tensor
    u: list[Tensor]
    once: Expected
    twice: ExpectedTwice | None

    @classmethod
    def make(cls, layer: BlockSparse, weights: Weights, count: int, *, twice: bool) -> Batch:
        """`count` random images and, where `twice`, the second derivatives too."""
        like = layer.weight
        features = (weights.shape[1], weights.shape[0], weights.shape[1])
        x, gy, v = (torch.randn(count, f, dtype=torch.float64).to(like) for f in features)
        u = [torch.randn(p.shape, dtype=torch.float64).to(like) for p in weight_parameters(layer)]
        matrix = weights.dense([p.detach() for p in weight_parameters(layer)])
        second = expected_twice(matrix, x, gy, v, weights.dense(u)) if twice else None
        return cls(x, gy, v, u, expected(matrix, _flat_bias(layer), x, gy), second)


def compare(layer: BlockSparse, weights: Weights, image: tuple[int, ...], batch: Batch, order: str) -> Iterator[tuple[str, float]]:
    """(pass, error as a share of what is allowed) for each pass; `image` is the shape that the layer takes, without N."""
    x = _in_order(batch.x.unflatten(1, image), order).requires_grad_()
    parameters = weight_parameters(layer)
    assert layer.bias is not None
    y = layer(x)
    gy = _in_order(batch.gy.reshape(y.shape), order).requires_grad_()
    gx, gbias, *gvalues = torch.autograd.grad(y, (x, layer.bias, *parameters), gy, create_graph=batch.twice is not None)
    yield "forward", batch.once.forward.ratio(y.detach().flatten(1))
    yield "grad-input", batch.once.backward_input.ratio(gx.detach().flatten(1))
    yield "grad-weight", _at_blocks(batch.once.backward_weight, weights, gvalues)
    yield "grad-bias", batch.once.bias.ratio(_flat_bias(layer, gbias).unsqueeze(0))
    if batch.twice is None:
        return
    twice = batch.twice
    v = _in_order(batch.v.unflatten(1, image), order)
    ggy, *second = torch.autograd.grad(gx, (gy, *parameters), v, retain_graph=True)
    yield "double backward", twice.grad_by_input.ratio(ggy.flatten(1))
    yield "double backward", _at_blocks(twice.weight_by_input, weights, second)
    ggy, ggx = torch.autograd.grad(gvalues, (gy, x), batch.u)
    yield "double backward", twice.grad_by_weight.ratio(ggy.flatten(1))
    yield "double backward", twice.input_by_weight.ratio(ggx.flatten(1))


def _at_blocks(wanted: Product, weights: Weights, got: list[Tensor]) -> float:
    """A weight gradient on the stored entries; on those that a mask leaves out it has to be exactly zero."""
    worst = 0.0
    for place, part in zip(weights.places, got):
        flat, free = part.detach().flatten(), place >= 0
        if bool(flat[~free].count_nonzero()):
            return float("inf")
        worst = max(worst, wanted.at(place[free]).ratio(flat[free]))
    return worst


def _flat_bias(layer: BlockSparse, bias: Tensor | None = None) -> Tensor:
    """(out_features,) in the order of a flattened image, from (P, Co)."""
    given = layer.bias if bias is None else bias
    assert given is not None
    return given.detach().reshape(-1, layer.layout.groups * layer.layout.block[0]).T.flatten()


def _in_order(x: Tensor, order: str) -> Tensor:
    return batch_last(x) if order == "batch-last" else x.contiguous()
