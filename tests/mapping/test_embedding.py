"""Whole networks to their eFCNs and back: same function, everything else as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import BlockLayout, ConvGeometry, LocallyConnected1d, LocallyConnected2d, cnn_to_efcn, efcn_to_cnn, verify_equivalence
from efcn_kernels.mapping.copies import BATCH_LAST
from efcn_kernels.nn import LOCALLY_CONNECTED
from efcn_kernels.pattern.sharing import unshare
from tests.support.models import NETWORKS, ResNet18, Shared, Viewing

LOCALS = tuple(LOCALLY_CONNECTED.values())
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def lived(model: nn.Module) -> nn.Module:
    """With weights, affine maps and running statistics that no constructor gives."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model


def flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else []
    return [t for part in parts for t in flat(part)]


def call(model: nn.Module, x: Any) -> list[Tensor]:
    return flat(model(*x) if isinstance(x, tuple) else model(x))


def convs_of(model: nn.Module) -> dict[str, Any]:
    return {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, CONVS)}


@pytest.mark.parametrize("support", ["local", 1])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks(name: str, support: Any) -> None:
    make, example = NETWORKS[name]
    model, x = lived(make()), example()
    before = copy.deepcopy(model)
    efcn = cnn_to_efcn(model, x, support)

    errors = verify_equivalence(model, efcn, x)
    assert max(errors.values()) < 1e-5
    unique = {id(conv): n for n, conv in reversed(list(convs_of(model).items()))}
    # heads that run in training only are not reached in evaluation
    assert set(errors) == {n for n in unique.values() if not n.startswith("aux")} | {"output"}

    kept, new = dict(model.named_modules(remove_duplicate=False)), dict(efcn.named_modules(remove_duplicate=False))
    assert list(kept) == list(new), "the same modules under the same names, in the same order"
    for path, module in kept.items():
        if isinstance(module, CONVS):
            assert isinstance(new[path], LOCALS)
        else:
            assert type(new[path]) in (type(module), BATCH_LAST.get(type(module)))
            for own, twin in zip(module.parameters(recurse=False), new[path].parameters(recurse=False), strict=True):
                assert own is not twin
                assert torch.equal(own, twin)

    for (path, own), (_, old) in zip(model.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(own, old), f"{path} of the original changed"
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules()), "no hook stays behind"
    left = [h for m in efcn.modules() for h in (*m._forward_pre_hooks.values(), *m._forward_hooks.values())]
    assert not left
    assert not [m for m in efcn.modules() if "forward" in vars(m)]

    back = efcn_to_cnn(efcn)
    assert [(n, type(m)) for n, m in back.named_modules()] == [(n, type(m)) for n, m in model.named_modules()]
    for (path, own), (_, old) in zip(back.state_dict().items(), model.state_dict().items(), strict=True):
        where = path.rpartition(".")[0]
        if isinstance(kept[where], CONVS) and path.endswith("weight"):
            old = old * live_taps(new[where])
        torch.testing.assert_close(own, old, rtol=1e-5, atol=1e-6, msg=f"{path} did not come back")
    assert max(verify_equivalence(model, copy.deepcopy(back), x).values()) < 1e-5


def live_taps(layer: Any) -> Tensor:
    """1 for the taps that meet the image anywhere; a tap that only ever meets padding is nothing that an eFCN can hold."""
    geometry = layer.geometry
    live = torch.zeros(geometry.num_taps)
    live[torch.from_numpy(geometry.taps().tap).long()] = 1
    return live.view(geometry.kernel_size)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_train_step(name: str) -> None:
    """The eFCN's gradient, summed over the sites of each tap, is the CNN's; one step makes both losses smaller."""
    make, example = NETWORKS[name]
    model, x = lived(make()), example()
    model.eval()
    efcn = cnn_to_efcn(model, x, support=1).double()
    model.double()
    x = tuple(t.double() for t in x) if isinstance(x, tuple) else x.double()
    losses = []
    for network in (model, efcn):
        loss = torch.stack([(t - 1).square().mean() for t in call(network, x)]).sum()
        torch.autograd.backward(loss)
        losses.append(loss.detach())
    torch.testing.assert_close(losses[0], losses[1])
    for path, layer in efcn.named_modules():
        if isinstance(layer, LOCALS):
            conv: Any = model.get_submodule(path)
            grad, off = layer.weight.grad, layer.off_weight
            if conv.weight.grad is None:
                # a head that only training runs
                assert grad is None
                continue
            assert grad is not None
            shared = conv.weight.detach().clone().requires_grad_()
            blocks = unshare(shared, layer.geometry, layer.local_layout)
            torch.testing.assert_close(torch.autograd.grad(blocks, shared, grad)[0], conv.weight.grad)
            assert off is None or (off.grad is not None and off.grad.isfinite().all())
        elif not isinstance(layer, CONVS):
            twin = model.get_submodule(path)
            for a, b in zip(layer.parameters(recurse=False), twin.parameters(recurse=False)):
                assert (a.grad is None) == (b.grad is None)
                if a.grad is not None:
                    torch.testing.assert_close(a.grad, b.grad)
    torch.optim.SGD(efcn.parameters(), 1e-3).step()
    after = torch.stack([(t - 1).square().mean() for t in call(efcn, x)]).sum()
    assert after < losses[1]


@pytest.mark.parametrize(("size", "batch"), [(32, 2), (64, 1)])
def test_resnet18_at_its_real_width(size: int, batch: int) -> None:
    model = lived(ResNet18(classes=10)).eval()
    x = torch.randn(batch, 3, size, size)
    efcn = cnn_to_efcn(model, x)
    errors = verify_equivalence(model, efcn, x)
    assert len(errors) == 21
    assert max(errors.values()) < 1e-5


def test_training_mode_requires_grad_dtype_are_kept() -> None:
    model: Any = Viewing().double()
    model.conv.requires_grad_(False)
    model.conv2.bias.requires_grad_(False)
    model.dropout.eval()
    efcn: Any = cnn_to_efcn(model, torch.randn(2, 3, 8, 8, dtype=torch.float64), support=1)
    assert [p.requires_grad for p in efcn.conv.parameters()] == [False] * 3
    assert [(n, p.requires_grad) for n, p in efcn.conv2.named_parameters()] == [("weight", True), ("off_weight", True), ("bias", False)]
    assert efcn.training
    assert not efcn.dropout.training
    assert efcn.conv.training
    assert {p.dtype for p in efcn.parameters()} == {torch.float64}
    back: Any = efcn_to_cnn(efcn)
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in model.parameters()]
    assert not back.dropout.training
    assert all(not m.training for m in cnn_to_efcn(model.eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)).modules())


def test_random_state_is_left_alone() -> None:
    """Mapping draws no random numbers: dropout in the trial run must not shift the user's stream."""
    model, x = Viewing(), torch.randn(2, 3, 8, 8)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    cnn_to_efcn(model, x)
    assert torch.equal(torch.rand(3), wanted)


def test_shared_layers_stay_shared() -> None:
    efcn: Any = cnn_to_efcn(Shared(), torch.randn(2, 3, 8, 8))
    assert efcn.conv is efcn.again
    assert len(list(efcn.parameters())) == 4
    back: Any = efcn_to_cnn(efcn)
    assert back.conv is back.again


def test_supports() -> None:
    model, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3)), torch.randn(2, 1, 7, 7)

    def count(efcn: Any) -> list[int]:
        return [efcn[0].layout.nnzb, efcn[2].layout.nnzb]

    local = count(cnn_to_efcn(model, x))
    assert local == [25 * 9, 9 * 9]
    full = count(cnn_to_efcn(model, x, "full"))
    assert full == [25 * 49, 9 * 25]
    assert count(cnn_to_efcn(model, x, 9)) == full
    assert count(cnn_to_efcn(model, x, {"2": "full"})) == [local[0], full[1]]
    assert count(cnn_to_efcn(model, x, {"0": 9, "2": lambda g: BlockLayout.from_conv(g, halo=0)})) == [full[0], local[1]]
    asked: list[ConvGeometry] = []

    def by_geometry(geometry: ConvGeometry) -> BlockLayout:
        asked.append(geometry)
        return BlockLayout.from_conv(geometry, halo=1)

    assert count(cnn_to_efcn(model, x, by_geometry)) == count(cnn_to_efcn(model, x, 1))
    assert [g.input_size for g in asked] == [(7, 7), (5, 5)]
    with pytest.raises(ValueError, match=r"\['1'\].*\['0', '2'\]"):
        cnn_to_efcn(model, x, {"1": "full"})
    with pytest.raises(ValueError, match=r"'0'.*globe"):
        cnn_to_efcn(model, x, "globe")
    with pytest.raises(ValueError, match=r"'0'.*lacks"):
        cnn_to_efcn(model, x, lambda g: BlockLayout.from_predicate(lambda p, q: p < 0, g.out_sites, g.in_sites, g.block))


def test_off_values_start_at_zero_and_train_apart() -> None:
    model, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3)), torch.randn(4, 1, 7, 7)
    efcn = cnn_to_efcn(model, x, "full")
    named = dict(efcn.named_parameters())
    assert set(named) == {f"{layer}.{n}" for layer in (0, 2) for n in ("weight", "off_weight", "bias")}
    assert all((p == 0).all() for n, p in named.items() if "off_weight" in n)
    off = [p for n, p in named.items() if "off_weight" in n]
    rest = {n: p.detach().clone() for n, p in named.items() if "off_weight" not in n}
    optimizer = torch.optim.SGD([{"params": off, "lr": 0.1}, {"params": [named[n] for n in rest], "lr": 0.0}])
    before = efcn(x).square().mean()
    before.backward()
    optimizer.step()
    assert all((p != 0).any() for p in off)
    assert all(torch.equal(named[n], p) for n, p in rest.items())
    assert efcn(x).square().mean() < before
    torch.testing.assert_close([p for _, p in efcn_to_cnn(efcn).named_parameters()], list(model.parameters()), msg="the projection drops them")


def test_single_layers() -> None:
    conv = nn.Conv2d(1, 2, 3)
    with pytest.raises(ValueError, match=r"LocallyConnected2d\.from_conv"):
        cnn_to_efcn(conv, torch.randn(1, 1, 5, 5))
    back = efcn_to_cnn(LocallyConnected2d.from_conv(conv, 5))
    assert isinstance(back, nn.Conv2d)
    torch.testing.assert_close(back.weight, conv.weight)


def test_verify_equivalence_sees_a_difference() -> None:
    model, x = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3)), torch.randn(2, 1, 9)
    efcn: Any = cnn_to_efcn(model, x)
    with torch.no_grad():
        efcn[1].weight[3] += 0.01
    errors = verify_equivalence(model, efcn, x)
    assert errors["0"] < 1e-6
    assert errors["1"] > 1e-3
    assert errors["output"] == errors["1"]
    with torch.no_grad():
        efcn[1].weight[3] = torch.nan
    assert not verify_equivalence(model, efcn, x)["output"] < 1e-5
    with pytest.raises(ValueError, match="'0', '1'"):
        verify_equivalence(nn.Identity(), efcn, x)
    assert not any(m._forward_hooks for m in [*model.modules(), *efcn.modules()])


def test_models_that_already_hold_locally_connected_layers() -> None:
    model = nn.Sequential(LocallyConnected1d(1, 2, 9, 3), nn.Conv1d(2, 1, 3))
    x = torch.randn(2, 1, 9)
    efcn = cnn_to_efcn(model, x)
    torch.testing.assert_close(efcn(x), model(x))
