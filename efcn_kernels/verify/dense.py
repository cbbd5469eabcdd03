"""What a layer's passes should give, from dense matrices; knows nothing of how the layer stores or computes."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from efcn_kernels.nn import BlockSparse
from efcn_kernels.verify.tolerance import Product, product


class Weights(NamedTuple):
    """Where each stored weight of a layer lies in its dense matrix.

    places: for each weight parameter of the layer, flat positions in (out_features, in_features), one per entry, -1 for
    an entry that an element mask leaves out. shape: (out_features, in_features).
    """

    places: list[Tensor]
    shape: tuple[int, int]

    @classmethod
    def of(cls, layer: BlockSparse) -> Weights:
        """Found by numbering the weights and looking where the numbers turn up; changes nothing in the layer."""
        numbered = copy.deepcopy(layer).double()
        parameters = weight_parameters(numbered)
        start = 1
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(torch.arange(start, start + parameter.numel()).view_as(parameter))
                start += parameter.numel()
            numbers = numbered.to_dense().long()
        place = torch.full((start,), -1)
        place[numbers.flatten()] = torch.arange(numbers.numel())
        return cls(list(place[1:].split([p.numel() for p in parameters])), (numbers.size(0), numbers.size(1)))

    def to(self, device: torch.device) -> Weights:
        """The same with the places on that device."""
        return self._replace(places=[place.to(device) for place in self.places])

    def dense(self, values: list[Tensor]) -> Tensor:
        """(out_features, in_features) from the weights or gradients of each parameter."""
        matrix = values[0].new_zeros(self.shape).flatten()
        for place, part in zip(self.places, values):
            matrix[place[place >= 0]] = part.detach().flatten()[place >= 0]
        return matrix.view(self.shape)


class Expected(NamedTuple):
    """The passes of one layer on one batch: (N, out_features), (N, in_features), (out, in) and (1, out_features)."""

    forward: Product
    backward_input: Product
    backward_weight: Product
    bias: Product


class ExpectedTwice(NamedTuple):
    """The second derivatives: of the input gradient towards v, and of the weight gradient towards u."""

    grad_by_input: Product
    weight_by_input: Product
    grad_by_weight: Product
    input_by_weight: Product


def expected(weight: Tensor, bias: Tensor, x: Tensor, gy: Tensor) -> Expected:
    """The passes of y = x @ weight^T + bias for weight (out, in), bias (out,), x (N, in) and the gradient gy (N, out)."""
    ones = gy.new_ones(1, gy.size(0))
    return Expected(product(x, weight.T, bias), product(gy, weight), product(gy.T, x), product(ones, gy))


def expected_twice(weight: Tensor, x: Tensor, gy: Tensor, v: Tensor, u: Tensor) -> ExpectedTwice:
    """The gradients of (input gradient . v) by gy and weight, and of (weight gradient . u) by gy and x."""
    return ExpectedTwice(product(v, weight.T), product(gy.T, v), product(x, u.T), product(gy, u))


def weight_parameters(layer: BlockSparse) -> list[torch.nn.Parameter]:
    """The layer's weights without its bias: the local ones and, where there are some, the off-local ones."""
    return [layer.weight] if layer.off_weight is None else [layer.weight, layer.off_weight]
