"""Margins, masks, exactness: small enough to check one by one."""

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import cnn_to_efcn
from efcn_kernels.analysis import exactness, margins, masked, right
from efcn_kernels.analysis.layers import mapped_layers


class _Logits(nn.Module):
    """Hands out what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_margins_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, -1.0, 5.0], [1.0, 1.0, 0.0]])
    assert margins(_Logits(), logits, torch.tensor([0, 1, 1]), 2).tolist() == [1.0, -6.0, 0.0]


def test_right_answers_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, -1.0, 5.0], [1.0, 2.0, 0.0]])
    assert right(_Logits(), logits, torch.tensor([0, 1, 1]), 2).tolist() == [True, False, True]


def test_masks_leave_one_part_and_come_off(efcn: nn.Module, images: Tensor) -> None:
    before = {name: p.clone() for name, p in efcn.named_parameters()}
    whole = efcn(images)
    for part, name in (("local", "0.weight"), ("off-local", "0.off_weight")):
        gone = {f"{layer}.{name[2:]}" for layer in mapped_layers(efcn)}
        expected = {key: torch.zeros_like(p) if key in gone else p for key, p in efcn.named_parameters()}
        with masked(efcn, part):  # type: ignore[arg-type]
            assert not efcn.get_parameter(name).any()
            seen = efcn(images)
        assert torch.equal(seen, torch.func.functional_call(efcn, expected, images))
        assert not torch.allclose(seen, whole)
    assert all(torch.equal(p, before[name]) for name, p in efcn.named_parameters())
    assert torch.equal(efcn(images), whole)


def test_masks_come_off_after_an_error(efcn: nn.Module, images: Tensor) -> None:
    whole = efcn(images)
    with pytest.raises(RuntimeError, match="in between"), masked(efcn, "local"):
        raise RuntimeError("in between")
    assert torch.equal(efcn(images), whole)


def test_without_off_local_weights_a_mask_changes_nothing(cnn: nn.Module, images: Tensor) -> None:
    elcn = cnn_to_efcn(cnn, images)
    before = elcn(images)
    with masked(elcn, "off-local"):
        assert torch.equal(elcn(images), before)


def test_an_unknown_part_is_said(efcn: nn.Module) -> None:
    with pytest.raises(ValueError, match="'local' or 'off-local', got 'dead'"), masked(efcn, "dead"):  # type: ignore[arg-type]
        pass


def test_exactness_sees_what_changed(cnn: nn.Module, images: Tensor) -> None:
    network, labels = cnn_to_efcn(cnn, images, support="full"), torch.arange(6) % 5
    same = exactness(network, cnn, images, labels, 4)
    assert same["logits_max_rel"] < 1e-5
    assert same["accuracy_cnn"] == same["accuracy_efcn"]
    with torch.no_grad():
        network.get_parameter("4.bias")[2] += 0.5
    assert abs(exactness(network, cnn, images, labels, 4)["logits_max_abs"] - 0.5) < 1e-5
