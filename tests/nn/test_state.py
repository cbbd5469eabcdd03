"""Saving, copying and loading layers, also into a model with another support."""

from __future__ import annotations

import copy
import io
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from efcn_kernels import BlockLayout, EFCNLinear, LocallyConnected2d, cnn_to_efcn


def network(support: Any = "local") -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, 2), nn.Flatten(), nn.Linear(8, 2))
    return cnn_to_efcn(model, image(), support)


def image() -> torch.Tensor:
    return torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))


def randomised(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


SUPPORTS: list[Any] = ["local", 1, "full"]


@pytest.mark.parametrize("support", SUPPORTS)
def test_copies_compute_the_same_and_are_apart(support: Any) -> None:
    model = randomised(network(support))
    wanted = model(image())
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)):
        assert torch.equal(twin(image()), wanted)
        randomised(twin)
        assert torch.equal(model(image()), wanted)


@pytest.mark.parametrize("into", SUPPORTS)
@pytest.mark.parametrize("saved", SUPPORTS)
def test_a_state_takes_its_support_along(saved: Any, into: Any) -> None:
    source, target = randomised(network(saved)), randomised(network(into))
    optimizer = torch.optim.SGD(target.parameters(), 0.1)
    kept = {id(p) for group in optimizer.param_groups for p in group["params"]}
    result = target.load_state_dict(source.state_dict())
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert torch.equal(target(image()), source(image()))
    assert [tuple(p.shape) for p in target.parameters()] == [tuple(p.shape) for p in source.parameters()]
    held = {id(p) for n, p in target.named_parameters() if "off_weight" not in n or into != "local"}
    assert held <= kept, "parameters stay the same objects, so an optimizer goes on training them"
    target(image()).square().sum().backward()
    before = target[0].weight.detach().clone()  # type: ignore[index]
    optimizer.step()
    assert not torch.equal(target[0].weight, before)  # type: ignore[index]


def test_there_and_back() -> None:
    local, full = randomised(network("local")), randomised(network("full"))
    state = copy.deepcopy(local.state_dict())
    local.load_state_dict(full.state_dict())
    assert torch.equal(local(image()), full(image()))
    local.load_state_dict(state)
    assert local[0].off_weight is None  # type: ignore[index]
    assert torch.equal(local(image()), randomised_again())


def randomised_again() -> Any:
    return randomised(network("local"))(image())


def test_state_files_load_safely(tmp_path: Path) -> None:
    source = randomised(network(1))
    torch.save(source.state_dict(), tmp_path / "state.pt")
    for state in (torch.load(tmp_path / "state.pt", weights_only=True), _through_safetensors(source, tmp_path / "state.safetensors")):
        target = network("local")
        target.load_state_dict(state)
        assert torch.equal(target(image()), source(image()))


def _through_safetensors(model: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    save_file(model.state_dict(), path)
    return load_file(path)


def test_whole_models_through_safetensors(tmp_path: Path) -> None:
    source, target = randomised(network(1)), randomised(network(1))
    save_model(source, str(tmp_path / "model.safetensors"))
    missing, unexpected = load_model(target, str(tmp_path / "model.safetensors"))
    assert not missing
    assert not unexpected
    assert torch.equal(target(image()), source(image()))


def test_masks_travel(tmp_path: Path) -> None:
    layout = BlockLayout.from_mask(torch.rand(8, 12) > 0.5, (2, 3))
    layer, whole = EFCNLinear(12, 8, layout), EFCNLinear(12, 8, BlockLayout.full(4, 4, (2, 3)))
    x = torch.randn(3, 12)
    state = _through_safetensors(layer, tmp_path / "masked.safetensors")
    full_state = copy.deepcopy(whole.state_dict())
    whole.load_state_dict(state)
    assert torch.equal(whole(x), layer(x))
    assert whole.layout.nnz == layout.nnz
    layer.load_state_dict(full_state)
    assert layer.layout.mask is None
    assert layer.layout.nnz == 96


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": torch.zeros(3, 3, 2)}, "weight"),
        ({"bias": torch.zeros(25, 4)}, "bias"),
        ({"weight": None}, "weight"),
        ({"layout_crow": None}, "layout_crow"),
        ({"layout_col": None}, "layout_col"),
        ({"layout_crow": torch.zeros(4, dtype=torch.int32)}, "26"),
        ({"layout_col": torch.zeros(169, dtype=torch.int32)}, "ascend"),
        ({"layout_local": torch.zeros(4, dtype=torch.bool)}, "(169,)"),
        ({"weight": torch.zeros(1)}, "weight"),
        ({"off_weight": torch.zeros(1, 3, 2)}, "off_weight"),
    ],
)
def test_what_does_not_fit_is_an_error(change: dict[str, torch.Tensor | None], says: str) -> None:
    layer = LocallyConnected2d(2, 3, 5, 3, padding=1)
    state = layer.state_dict() | change
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(RuntimeError, match=re.escape(says)):
        layer.load_state_dict(state)


def test_a_layout_without_the_own_window_is_an_error() -> None:
    """A locally connected layer must keep its convolution's blocks."""
    layer = LocallyConnected2d(2, 3, 5, 3, padding=1)
    for wrong in (LocallyConnected2d(2, 3, 5, 1), LocallyConnected2d(2, 3, 5, 5, padding=2)):
        with pytest.raises(RuntimeError, match="layout"):
            layer.load_state_dict(wrong.state_dict())


def test_a_refused_state_leaves_the_layer_as_it_was() -> None:
    layer = randomised(LocallyConnected2d(2, 3, 5, 3, padding=1))
    wanted = layer(image())
    with pytest.raises(RuntimeError):
        layer.load_state_dict(LocallyConnected2d(2, 3, 5, 1).state_dict())
    assert torch.equal(layer(image()), wanted)


def test_loading_does_not_empty_the_given_state() -> None:
    source = network(1)
    state = source.state_dict()
    names = set(state)
    network("local").load_state_dict(state)
    assert set(state) == names
    network("full").load_state_dict(state)


def test_non_strict_loading_of_a_part() -> None:
    layer = LocallyConnected2d(2, 3, 5, 3)
    before = layer.weight.detach().clone()
    result = layer.load_state_dict({"bias": torch.ones(9, 3)}, strict=False)
    assert "weight" in result.missing_keys
    assert torch.equal(layer.weight, before)
    assert layer.bias is not None
    assert (layer.bias == 1).all()


def test_optimizer_state_after_a_change_of_support() -> None:
    """Momentum of another size would be an error in the middle of training; a new optimizer is what is needed, or clearing."""
    model = network("local")
    model.load_state_dict(network("full").state_dict())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(image()).square().sum().backward()
        optimizer.step()
    assert int((model[0].off_weight != 0).sum()) > 0  # type: ignore[index]


def test_assign_loading() -> None:
    source, target = randomised(network(1)), network("local")
    target.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(target(image()), source(image()))


def test_a_state_for_a_frozen_layer_leaves_it_frozen() -> None:
    target = network("local").requires_grad_(False)
    target.load_state_dict(network(1).state_dict())
    assert not any(p.requires_grad for p in target.parameters())


def test_a_state_is_no_way_into_the_layout() -> None:
    """Averaging a state dict in place, as many training scripts do, must not reach the layer."""
    layer: Any = randomised(LocallyConnected2d(2, 3, 5, 3, padding=1, support=1))
    wanted = layer(image())
    for name, tensor in layer.state_dict().items():
        if name.startswith("layout"):
            tensor.zero_()
    for index in layer.layout.to_bsr_indices():
        index.zero_()
    assert torch.equal(layer(image()), wanted)


def test_the_same_layout_loads_in_place() -> None:
    layer = randomised(LocallyConnected2d(2, 3, 5, 3, padding=1))
    layer(image()).sum().backward()
    places = [p.data_ptr() for p in layer.parameters()]
    layer.load_state_dict(LocallyConnected2d(2, 3, 5, 3, padding=1).state_dict())
    assert [p.data_ptr() for p in layer.parameters()] == places
    assert layer.weight.grad is not None


def test_a_layout_without_its_weights_changes_nothing() -> None:
    layer = randomised(LocallyConnected2d(2, 3, 5, 3, padding=1))
    wanted = layer(image())
    state = {k: v for k, v in LocallyConnected2d(2, 3, 5, 3, padding=1, support=1).state_dict().items() if "weight" not in k}
    with pytest.raises(RuntimeError, match="has blocks for weight"):
        layer.load_state_dict(state, strict=False)
    assert torch.equal(layer(image()), wanted)


@pytest.mark.parametrize("support", SUPPORTS)
def test_through_distributed_checkpoints(support: Any) -> None:
    """torch.distributed.checkpoint looks every name up in its module, and puts states back by name."""
    model, other = randomised(network(support)), randomised(network(support))
    state = get_model_state_dict(model)
    assert state.keys() == model.state_dict().keys()
    set_model_state_dict(other, state)
    assert torch.equal(other(image()), model(image()))


def test_a_default_device_is_for_weights_alone() -> None:
    mask = torch.rand(8, 6) > 0.3
    whole = BlockLayout.from_mask(mask, (2, 3))
    halved = BlockLayout(4, 2, (2, 3), whole.crow, whole.col, local=torch.arange(whole.nnzb) % 2 == 0, mask=whole.mask)
    with torch.device("meta"):
        layer = EFCNLinear(6, 8, halved)
        state = layer.state_dict()
    assert layer.weight.device.type == "meta"
    assert {state[name].device.type for name in ("layout_crow", "layout_col", "layout_local", "layout_mask")} == {"cpu"}
