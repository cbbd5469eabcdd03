"""Spectra by products with the layer against those of the dense matrix."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import cnn_to_efcn
from efcn_kernels.analysis import participation_rank, singular_values, stable_rank
from efcn_kernels.analysis.layers import mapped_layers
from efcn_kernels.analysis.spectrum import matrix
from tests.support.line import line


def test_against_the_dense_matrix(efcn: nn.Module, cnn: nn.Module, images: Tensor) -> None:
    for network in (efcn, cnn_to_efcn(cnn, images), cnn_to_efcn(cnn, images, support=1)):
        for layer in mapped_layers(network).values():
            dense = layer.to_dense().detach().double()
            all_of_them = torch.linalg.svdvals(dense)
            found = singular_values(layer, 5, tolerance=1e-6)
            np.testing.assert_allclose(found, all_of_them[:5].numpy(), rtol=1e-4)
            assert abs(stable_rank(layer) / float(dense.square().sum() / all_of_them[0] ** 2) - 1) < 1e-3
            exact = float(all_of_them.square().sum() ** 2 / all_of_them.pow(4).sum())
            assert abs(participation_rank(layer, probes=4000) / exact - 1) < 0.05


def test_the_operator_is_the_matrix(efcn: nn.Module) -> None:
    layer = mapped_layers(efcn)["2"]
    operator, dense = matrix(layer), layer.to_dense().detach().numpy()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((dense.shape[1], 3)), rng.standard_normal((dense.shape[0], 3))
    np.testing.assert_allclose(operator @ x, dense @ x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(operator.H @ y, dense.T @ y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(operator @ x[:, 0], dense @ x[:, 0], rtol=1e-4, atol=1e-5)


def test_the_identity_by_hand() -> None:
    layer = mapped_layers(cnn_to_efcn(line(0.0, 2.0, 0.0), torch.zeros(1, 1, 3), support="full"))["0"]
    np.testing.assert_allclose(singular_values(layer, 2), [2.0, 2.0], rtol=1e-6)
    # three singular values of 2: all ranks are 3, and random signs see that without noise
    assert abs(stable_rank(layer) - 3) < 1e-5
    assert abs(participation_rank(layer, probes=1) - 3) < 1e-5
    assert layer.weight.grad is None


@pytest.mark.parametrize("count", [0, 3])
def test_impossible_counts_are_said(count: int) -> None:
    layer = mapped_layers(cnn_to_efcn(line(1.0, 2.0, 0.0), torch.zeros(1, 1, 3)))["0"]
    with pytest.raises(ValueError, match=rf"count must be from 1 to 2, below both sizes of the \(3, 3\) matrix, got {count}"):
        singular_values(layer, count)
