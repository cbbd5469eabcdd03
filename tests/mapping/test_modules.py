"""What a mapping puts in the place of torch's modules, and takes out again: no instance is changed, copies are independent."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import batch_last, cnn_to_efcn, efcn_to_cnn
from efcn_kernels import nn as efcn_nn
from efcn_kernels.mapping.copies import BATCH_LAST, TORCHS_OWN, with_modules


def cnn() -> nn.Sequential:
    """A network with a module of each kind that is replaced."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 4, 3),
        nn.AvgPool2d(2, 1),
        nn.AdaptiveMaxPool2d(3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 3, 8, 8)


@pytest.fixture
def efcn(x: Tensor) -> nn.Sequential:
    mapped = cnn_to_efcn(cnn(), x)
    assert isinstance(mapped, nn.Sequential)
    return mapped


def test_modules_of_this_package_stand_for_torchs(efcn: nn.Sequential) -> None:
    kinds = [type(m) for m in efcn]
    assert kinds[1] is efcn_nn.BatchNorm2d
    assert [kinds[3], kinds[4], *kinds[6:9]] == [
        efcn_nn.MaxPool2d,
        efcn_nn.Upsample,
        efcn_nn.AvgPool2d,
        efcn_nn.AdaptiveMaxPool2d,
        efcn_nn.AdaptiveAvgPool2d,
    ]
    assert all(issubclass(ours, torchs) for torchs, ours in BATCH_LAST.items())
    assert not [m for m in efcn.modules() if "forward" in vars(m)]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_round_trip_gives_torchs_own_network(efcn: nn.Sequential, x: Tensor) -> None:
    model = cnn()
    back = efcn_to_cnn(cnn_to_efcn(model, x))
    assert repr(back) == repr(model)
    assert [type(m) for m in back.modules()] == [type(m) for m in model.modules()]
    assert list(back.state_dict()) == list(model.state_dict())
    model.eval()
    back.eval()
    torch.testing.assert_close(back(x), model(x))
    torch.testing.assert_close(torch.jit.script(back)(x), model(x))
    torch.testing.assert_close(torch.export.export(back, (x,)).module()(x), model(x))


def test_the_cnn_that_comes_back_needs_nothing_of_this_package(tmp_path: Path, efcn: nn.Sequential) -> None:
    torch.save(efcn_to_cnn(efcn), tmp_path / "cnn.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['efcn_kernels'] = None\n"
        f"print(torch.load({str(tmp_path / 'cnn.pt')!r}, weights_only=False)(torch.zeros(2, 3, 8, 8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "torch.Size([2, 5])", done.stderr
    # the check can fail: the eFCN does need it
    torch.save(efcn, tmp_path / "cnn.pt")
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120, check=False).returncode != 0


def test_the_whole_network_pickles(efcn: nn.Sequential, x: Tensor) -> None:
    file = io.BytesIO()
    torch.save(efcn, file)
    file.seek(0)
    for again in (torch.load(file, weights_only=False), pickle.loads(pickle.dumps(efcn)), copy.deepcopy(efcn)):
        assert torch.equal(again.eval()(x), efcn.eval()(x))
        assert [type(m) for m in again] == [type(m) for m in efcn]


@pytest.mark.parametrize("replicate", [copy.copy, lambda m: m._replicate_for_data_parallel()], ids=["copy", "DataParallel's replica"])
def test_shallow_copies_act_on_themselves(replicate: Any) -> None:
    norm = efcn_nn.BatchNorm2d(3).eval()
    other = replicate(norm)
    other._parameters = dict(norm._parameters)
    other._buffers = {name: None if b is None else b.clone() for name, b in norm._buffers.items()}
    other.running_mean += 1.0
    other.training = True
    image = batch_last(torch.randn(4, 3, 5, 5))
    before = norm(image)
    # the copy normalises with the batch's own statistics, the original with those that it has kept
    torch.testing.assert_close(other(image).mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert torch.equal(norm(image), before)
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(3))


def test_conversion_to_sync_batchnorm_and_swapping_act_on_the_copy(efcn: nn.Sequential, x: Tensor) -> None:
    original, wanted = efcn.eval(), efcn(x)
    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(efcn))
    assert type(converted[1]) is nn.SyncBatchNorm
    swapped = copy.copy(efcn)
    swapped._modules = {**efcn._modules, "3": nn.AvgPool2d(2)}
    assert not torch.equal(swapped(x), wanted)
    assert torch.equal(original(x), wanted)


def test_a_network_built_by_hand_stays_batch_last(x: Tensor) -> None:
    layer = efcn_nn.LocallyConnected2d.from_conv(nn.Conv2d(3, 4, 3, padding=1), 8)
    body = nn.Sequential(layer, efcn_nn.BatchNorm2d(4), nn.ReLU(), efcn_nn.MaxPool2d(2), efcn_nn.AvgPool2d(2), efcn_nn.AdaptiveMaxPool2d(2))
    order: list[bool] = []
    for module in body:
        module.register_forward_hook(lambda _m, _i, y: order.append(y.permute(2, 3, 1, 0).is_contiguous()))
    body(batch_last(x))
    assert order == [True] * 6


def test_state_hooks_and_ties_go_along() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.MaxPool2d(2)).eval()
    model[1].weight = model[0].weight
    seen: list[str] = []
    model[2].register_forward_hook(lambda _m, _i, _o: seen.append("hook"))
    model[2].note = torch.tensor(7)
    with torch.no_grad():
        model[0].get_buffer("running_mean").normal_()
    other: Any = with_modules(model, {}, kinds=BATCH_LAST)
    assert other[1].weight is other[0].weight is not model[0].weight
    assert other[2].note == 7
    assert torch.equal(other(torch.ones(2, 3, 4, 4)), model(torch.ones(2, 3, 4, 4)))
    assert seen == ["hook", "hook"]
    assert [type(m) for m in with_modules(other, {}, kinds=TORCHS_OWN).modules()] == [type(m) for m in model.modules()]


def test_a_module_alone_and_modules_that_are_not_torchs_are_left_alone() -> None:
    class Mine(nn.MaxPool2d):
        pass

    patched = nn.MaxPool2d(2)
    patched.forward = lambda input: input  # type: ignore[method-assign]
    both: Any = with_modules(nn.ModuleList([Mine(2), patched]), {}, kinds=BATCH_LAST)
    assert [type(m) for m in both] == [Mine, nn.MaxPool2d]
    assert type(with_modules(nn.MaxPool2d(2), {}, kinds=BATCH_LAST)) is efcn_nn.MaxPool2d
