"""Layers in torch's other modes: inference mode, meta tensors, checkpoints, averaged copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from efcn_kernels import BlockLayout, ConvGeometry, EFCNLinear, LocallyConnected2d, cnn_to_efcn
from tests.support.models import Inception


def test_a_layout_made_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        layout = BlockLayout.full(2, 2, (2, 3))
    layer = EFCNLinear(6, 4, layout)
    layer(torch.randn(3, 6)).sum().backward()
    assert layer.weight.grad is not None


def test_indices_moved_in_inference_mode_can_be_trained() -> None:
    """An evaluation before the first training step on a device must not leave inference tensors behind."""
    layout = BlockLayout.full(2, 2, (2, 3))
    with torch.inference_mode():
        layout.index(torch.device("meta"))
    assert not any(t.is_inference() for t in layout.index(torch.device("meta")) if t is not None)


def test_inference_mode_computes() -> None:
    layer, x = LocallyConnected2d(2, 3, 5, 3, support=1), torch.randn(2, 2, 5, 5)
    with torch.inference_mode():
        inside = layer(x)
    assert torch.equal(inside, layer(x))


def test_meta_tensors() -> None:
    """Shapes without memory, as torch's own layers give them."""
    layer = LocallyConnected2d(2, 3, 5, 3, device="meta")
    assert layer(torch.empty(7, 2, 5, 5, device="meta")).shape == (7, 3, 3, 3)


def test_materialising_a_meta_layer() -> None:
    with torch.device("meta"):
        layer = LocallyConnected2d(2, 3, 5, 3)
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(torch.randn(2, 2, 5, 5)).isfinite().all()


def test_checkpointing() -> None:
    layer, x = LocallyConnected2d(2, 3, 5, 3), torch.randn(2, 2, 5, 5, requires_grad=True)
    torch.autograd.backward(torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).sum())
    again = layer.weight.grad
    layer.weight.grad = None
    torch.autograd.backward(layer(x).sum())
    assert again is not None
    assert layer.weight.grad is not None
    assert torch.equal(again, layer.weight.grad)


def test_averaged_copies() -> None:
    layer, x = LocallyConnected2d(2, 3, 5, 3, support=1), torch.randn(2, 2, 5, 5)
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    for _ in range(2):
        averaged.update_parameters(layer)
    torch.testing.assert_close(averaged(x), layer(x))


def test_numpy_integers_are_integers() -> None:
    size: Any = np.int64(5)
    layer = LocallyConnected2d(2, 3, (size, size), 3, support=np.int64(1))
    assert layer.off_weight is not None


def test_a_halo_far_beyond_the_image_costs_no_more_than_the_image() -> None:
    layout = BlockLayout.from_conv(ConvGeometry.make(1, 1, (5, 5), 3), halo=10**6)
    assert layout.nnzb == 9 * 25


def test_a_head_that_only_training_runs_draws_no_random_numbers() -> None:
    model = Inception()
    model.aux.insert(0, nn.Dropout(0.5))
    x = torch.randn(2, 3, 8, 8)
    state = torch.get_rng_state()
    cnn_to_efcn(model, x)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_complex_network_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="complex64"):
        cnn_to_efcn(model, torch.randn(2, 2, 5, 5, dtype=torch.complex64))


class AskedSize(nn.Module):
    """The size of a transposed convolution's output, asked for in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(1, 1, 3, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.up(x, output_size=[12, 12])


def test_an_output_size_given_in_the_call_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'up'"):
        cnn_to_efcn(AskedSize(), torch.randn(1, 1, 5, 5))
