"""What a relaxed network can start from, grow into, be cut to and take along."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import EFCNSGD, BlockLayout, ConvGeometry, EFCNLinear, LocallyConnected2d, cnn_to_efcn
from efcn_kernels.mapping import carry_state, cut, grow, parameter_groups
from efcn_kernels.study.start import default_fcn, fcn_of_norms, scatter


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 2, 7, 6)


@pytest.fixture
def cnn() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2), nn.Flatten(), nn.Linear(18, 5))


def _layers(network: nn.Module) -> list[LocallyConnected2d]:
    return [layer for layer in network.modules() if isinstance(layer, LocallyConnected2d)]


def test_the_default_fcn_is_drawn_as_nn_linear_over_the_padded_image(cnn: nn.Module, images: Tensor) -> None:
    fcn = default_fcn(cnn, images)
    for layer, fan_in in zip(_layers(fcn), (2 * 9 * 8, 4 * 7 * 6), strict=True):
        for parameter in layer.parameters():
            bound = fan_in**-0.5
            assert parameter.abs().max() <= bound
            assert parameter.numel() < 20 or parameter.abs().max() > 0.9 * bound
        # nothing of the filter is left
        assert layer.off_weight is not None
        assert 0.8 < float((layer.weight.std() / layer.off_weight.std()).detach()) < 1.25
    assert not torch.equal(fcn.get_parameter("4.weight"), cnn.get_parameter("4.weight"))


def test_an_fcn_of_norms_keeps_norms_alone(cnn: nn.Module, images: Tensor) -> None:
    efcn = cnn_to_efcn(cnn, images, support="full")
    fcn = fcn_of_norms(efcn)
    for before, after in zip(_layers(efcn), _layers(fcn), strict=True):
        parts = [torch.cat([layer.weight.flatten(), layer.off_weight.flatten()]) for layer in (before, after) if layer.off_weight is not None]
        assert 0.9 < float((parts[1].norm() / parts[0].norm()).detach()) < 1.1
        assert abs(float((after.off_weight.std() / after.weight.std()).detach()) - 1) < 0.2  # type: ignore[union-attr]
        assert torch.equal(before.get_parameter("bias"), after.get_parameter("bias"))
    assert not _layers(efcn)[0].off_weight.any()  # type: ignore[union-attr]


def test_scatter_moves_off_local_weights_only(cnn: nn.Module, images: Tensor) -> None:
    efcn = cnn_to_efcn(cnn, images, support=1)
    before = [layer.weight.clone() for layer in _layers(efcn)]
    scatter(efcn, 0.5)
    for layer, values in zip(_layers(efcn), before, strict=True):
        assert torch.equal(layer.weight, values)
        assert layer.off_weight is not None
        assert 0.4 < float(layer.off_weight.detach().std()) < 0.6
    with pytest.raises(ValueError, match="got -1"):
        scatter(efcn, -1.0)


def test_off_local_weights_of_hand_built_layers_count_too() -> None:
    """An EFCNLinear of a convolution with a halo, and entries that a mask keeps at zero."""
    whole = BlockLayout.from_support(ConvGeometry.of(nn.Conv2d(1, 2, 3, padding=1), (4, 4)), 1)  # type: ignore[arg-type]
    mask = torch.rand(whole.nnzb, *whole.block) > 0.5
    mask[torch.tensor(whole.local)] = True
    masked = BlockLayout(whole.out_sites, whole.in_sites, whole.block, whole.crow, whole.col, local=whole.local, mask=mask)
    layer = EFCNLinear(masked.in_features, masked.out_features, masked)
    assert layer.off_weight is not None
    scatter(nn.Sequential(layer), 0.5)
    kept = mask[~torch.tensor(whole.local)]
    assert torch.equal(layer.off_weight != 0, kept)
    assert [id(p) for p in parameter_groups(nn.Sequential(layer), 0.1)[1]["params"]] == [id(layer.off_weight)]


@pytest.mark.parametrize(("small", "large"), [("local", 1), (1, "full"), ("local", "full"), (1, 1)])
def test_growing_keeps_the_function_and_every_weight(cnn: nn.Module, images: Tensor, small: Any, large: Any) -> None:
    network = cnn_to_efcn(cnn, images, support=small)
    scatter(network, 0.1)
    grown = grow(network, large)
    torch.testing.assert_close(grown(images), network(images))
    for layer, reference in zip(_layers(grown), _layers(cnn_to_efcn(cnn, images, support=large)), strict=True):
        assert layer.layout.same_blocks(reference.layout)
    for old, new in zip(_layers(network), _layers(grown), strict=True):
        torch.testing.assert_close(old.to_dense(), new.to_dense())
    # new weights learn
    grown(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in grown.parameters())


def test_growing_never_drops_a_block(cnn: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match="the layout lacks"):
        grow(cnn_to_efcn(cnn, images, support="full"), 1)


def test_growing_never_drops_a_weight() -> None:
    """A larger support whose element mask lacks an off-local entry that the layer has."""
    network = cnn_to_efcn(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)), torch.randn(2, 1, 4, 4), support=1)
    whole = BlockLayout.from_support(_layers(network)[0].geometry, 2)
    mask = torch.ones(whole.nnzb, *whole.block, dtype=torch.bool)
    off = set(whole.keys()[~whole.local])
    had, new = off & set(_layers(network)[0].layout.keys()), off - set(_layers(network)[0].layout.keys())

    def without(key: int) -> BlockLayout:
        entries = mask.clone()
        entries[int(np.flatnonzero(whole.keys() == key)[0]), 0, 0] = False
        return BlockLayout(whole.out_sites, whole.in_sites, whole.block, whole.crow, whole.col, mask=entries)

    with pytest.raises(ValueError, match="leaves out 1 weights that a layer has"):
        grow(network, without(min(had)))
    # a mask on what is new is no loss, and what the layer's own mask leaves out is none either
    grown = grow(network, without(min(new)))
    assert _layers(grown)[0].layout.mask is not None
    assert _layers(grow(grown, without(min(new))))[0].layout.mask is not None


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
def test_pruning_keeps_the_largest_blocks(cnn: nn.Module, images: Tensor, keep: float) -> None:
    network = cnn_to_efcn(cnn, images, support="full")
    scatter(network, 0.1)
    pruned = cut(network, keep)
    every = torch.cat([layer.off_weight.detach().flatten(1).norm(dim=1) for layer in _layers(network) if layer.off_weight is not None])
    left = [layer.off_weight.detach().flatten(1).norm(dim=1) for layer in _layers(pruned) if layer.off_weight is not None]
    kept = torch.cat([*left, torch.zeros(0)]).sort(descending=True).values
    assert torch.equal(kept, every.sort(descending=True).values[: round(keep * len(every))])
    for old, new in zip(_layers(network), _layers(pruned), strict=True):
        assert torch.equal(old.weight, new.weight)
        dense = new.to_dense()
        assert torch.equal(dense, torch.where(dense != 0, old.to_dense(), dense))
    assert pruned(images).shape == (5, 5)


def test_pruning_takes_a_share(cnn: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"keep must be a share from 0 to 1, got 1\.5"):
        cut(cnn_to_efcn(cnn, images, support=1), 1.5)


def test_parameter_groups(cnn: nn.Module, images: Tensor) -> None:
    efcn = cnn_to_efcn(cnn, images, support=1)
    near, off = parameter_groups(efcn, 0.1, 0.01, off_local_learning_rate=0.02)
    assert (near["lr"], near["weight_decay"], off["lr"], off["weight_decay"]) == (0.1, 0.01, 0.02, 0.01)
    assert [id(p) for p in off["params"]] == [id(layer.off_weight) for layer in _layers(efcn)]
    assert len(near["params"]) + len(off["params"]) == len(list(efcn.parameters()))
    assert len(parameter_groups(cnn, 0.1, off_local_learning_rate=0.02)) == 1


def _trained(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: EFCNSGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=0.01),
    ],
)
def test_what_is_carried_moves_the_network_on_as_the_cnn(cnn: nn.Module, images: Tensor, make: Any) -> None:
    optimizer = make(cnn.parameters())
    _trained(cnn, optimizer, images, 3)
    efcn = cnn_to_efcn(cnn, images, support=1)
    carried = make(efcn.parameters())
    carry_state(optimizer, cnn, carried, efcn)
    # without a new gradient both coast
    for network, stepper in ((cnn, optimizer), (efcn, carried)):
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = network(images)
        stepper.step()
        assert not torch.allclose(network(images), before)
    torch.testing.assert_close(efcn(images), cnn(images))
    assert all(not layer.off_weight.any() for layer in _layers(efcn))  # type: ignore[union-attr]


def test_carried_state_can_be_trained_saved_and_loaded(cnn: nn.Module, images: Tensor) -> None:
    optimizer = EFCNSGD(cnn.parameters(), lr=0.1, momentum=0.9)
    _trained(cnn, optimizer, images, 2)
    efcn = cnn_to_efcn(cnn, images, support=1)
    carried = EFCNSGD(parameter_groups(efcn, 0.05), momentum=0.9, fused=True)
    carry_state(optimizer, cnn, carried, efcn)
    twin = cnn_to_efcn(cnn, images, support=1)
    again = EFCNSGD(parameter_groups(twin, 0.05), momentum=0.9)
    again.load_state_dict(carried.state_dict())
    buffer = again.state[_layers(twin)[0].weight]["momentum_buffer"]
    assert math.isclose(float(buffer.norm()), float(carried.state[_layers(efcn)[0].weight]["momentum_buffer"].norm()))
    assert carried.param_groups[0]["lr"] == 0.05
    _trained(efcn, carried, images, 1)


def test_nothing_gathered_means_nothing_carried(cnn: nn.Module, images: Tensor) -> None:
    optimizer = EFCNSGD(cnn.parameters(), lr=0.1)
    _trained(cnn, optimizer, images, 1)
    efcn = cnn_to_efcn(cnn, images)
    carried = EFCNSGD(efcn.parameters(), lr=0.1)
    carry_state(optimizer, cnn, carried, efcn)
    assert not carried.state
