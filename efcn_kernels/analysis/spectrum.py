"""Singular values and ranks of a layer's matrix by products with it: the matrix is never made dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efcn_kernels import extras
from efcn_kernels.analysis.deviation import squares
from efcn_kernels.analysis.layers import Layer


def singular_values(layer: Layer, count: int = 8, tolerance: float = 1e-3, seed: int = 0) -> NDArray[np.float64]:
    """The `count` largest singular values of the layer's matrix (all its outputs x all its inputs), descending.

    Lanczos iterations on products with the matrix and its transpose (scipy's svds, ARPACK), each as cheap as one image. The CNN's
    layer has few distinct ones; what relaxing adds shows above and between them.
    tolerance: relative, of the squares. A random matrix of 18,496 x 3,072, whose values lie close together, takes 96 s at rounding
    precision. Raises ValueError for a count that the matrix lacks, ImportError without scipy.
    """
    extras.require("efcn_kernels.analysis.singular_values", "scipy")
    from scipy.sparse.linalg import svds  # type: ignore[import-untyped]

    operator = matrix(layer)
    if not 1 <= count < min(operator.shape):
        raise ValueError(f"count must be from 1 to {min(operator.shape) - 1}, below both sizes of the {operator.shape} matrix, got {count}")
    start = np.random.default_rng(seed).standard_normal(min(operator.shape)).astype(operator.dtype)
    found = svds(operator, k=count, v0=start, tol=tolerance, return_singular_vectors=False)
    return np.sort(np.asarray(found, dtype=np.float64))[::-1]


def stable_rank(layer: Layer, largest: float | None = None) -> float:
    """|W|_F^2 / sigma_1^2 (Rudelson and Vershynin 2007): 1 for one direction, the rank where all singular values are equal.

    largest: sigma_1, where it is known already.
    """
    sigma = float(singular_values(layer, 1)[0]) if largest is None else largest
    weights = squares(layer)
    return (weights.local + weights.off_local) / sigma**2


def participation_rank(layer: Layer, probes: int = 64, seed: int = 0) -> float:
    """(sum of sigma^2)^2 / sum of sigma^4: how many singular values take part, the whole spectrum counted.

    The denominator |W^T W|_F^2 is estimated without bias by Hutchinson's method (1990): the mean of |W^T W z|^2 over `probes` vectors
    z of random signs. The standard error falls as 1 / sqrt(probes).
    """
    generator = torch.Generator().manual_seed(seed)
    size = layer.geometry.in_channels, *layer.geometry.input_size
    signs = torch.randint(0, 2, (probes, *size), generator=generator).to(layer.weight) * 2 - 1
    with torch.enable_grad():
        z = signs.requires_grad_()
        y = _times(layer, z)
        (back,) = torch.autograd.grad(y, z, y.detach())
    fourth = float(back.double().square().sum()) / probes
    weights = squares(layer)
    return (weights.local + weights.off_local) ** 2 / fourth


def matrix(layer: Layer) -> Any:
    """The layer's matrix (out_features, in_features) as scipy's LinearOperator, features in torch's flatten order; no biases."""
    from scipy.sparse.linalg import LinearOperator

    into, out = layer.layout.in_features, layer.layout.out_features
    image = layer.geometry.in_channels, *layer.geometry.input_size
    kind = layer.weight.detach().new_empty(0).cpu().numpy().dtype

    def tensor(x: NDArray[Any]) -> Tensor:
        # one column or several
        return torch.from_numpy(np.ascontiguousarray(x.reshape(x.shape[0], -1).T)).to(layer.weight)

    def forward(x: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            y: NDArray[Any] = _times(layer, tensor(x).unflatten(1, image)).flatten(1).T.cpu().numpy()
        return y.reshape(out, *x.shape[1:])

    def backward(y: NDArray[Any]) -> NDArray[Any]:
        seen = tensor(y)
        with torch.enable_grad():
            # linear, so the point at which it is differentiated does not matter
            x = layer.weight.new_zeros(len(seen), *image).requires_grad_()
            (back,) = torch.autograd.grad(_times(layer, x).flatten(1), x, seen)
        found: NDArray[Any] = back.flatten(1).T.cpu().numpy()
        return found.reshape(into, *y.shape[1:])

    return LinearOperator((out, into), matvec=forward, rmatvec=backward, matmat=forward, rmatmat=backward, dtype=kind)


def _times(layer: Layer, x: Tensor) -> Tensor:
    """W x on images (N, C, H, W), biases left out."""
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    if layer.bias is not None:
        weights["bias"] = torch.zeros_like(layer.bias)
    y: Tensor = torch.func.functional_call(layer, weights, (x,))
    return y
