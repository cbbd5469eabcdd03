"""Pooling on batch-last images: the same values and gradients, without leaving the order."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import batch_last
from efcn_kernels.mapping.copies import BATCH_LAST, with_modules
from efcn_kernels.nn import MaxPool2d

POOLS: dict[str, nn.Module] = {
    "max": nn.MaxPool2d(2),
    "max, padded": nn.MaxPool2d(3, 2, 1),
    "max, ceil": nn.MaxPool2d((3, 2), (2, 3), ceil_mode=True),
    "average": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "adaptive average": nn.AdaptiveAvgPool2d((2, 3)),
    "global average": nn.AdaptiveAvgPool2d(1),
    "adaptive max": nn.AdaptiveMaxPool2d(2),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample((5, 9), mode="bilinear", align_corners=True),
}


def pooled(name: str) -> tuple[nn.Module, nn.Module]:
    plain = nn.Sequential(copy.deepcopy(POOLS[name]))
    kept = with_modules(plain, {}, kinds=BATCH_LAST)
    assert isinstance(kept, nn.Sequential)
    assert isinstance(kept[0], type(plain[0]))
    assert type(kept[0]) is not type(plain[0])
    return plain, pickle.loads(pickle.dumps(kept))


def gradients(like: Tensor) -> list[Tensor]:
    """Gradients in several memory orders, an expanded one too."""
    g = torch.randn_like(like)
    return [g, batch_last(g), g.to(memory_format=torch.channels_last), torch.randn(like.size(0), 1, 1, 1, dtype=like.dtype).expand_as(like)]


@pytest.mark.parametrize("name", list(POOLS))
@pytest.mark.parametrize("n", [2, 5])
def test_pooling_is_the_same_and_stays_batch_last(name: str, n: int) -> None:
    plain, kept = pooled(name)
    x = torch.randn(n, 3, 7, 6, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), batch_last(x).requires_grad_()
    wanted, got = plain(a), kept(b)
    torch.testing.assert_close(got, wanted)
    assert got.permute(2, 3, 1, 0).is_contiguous()
    for g in gradients(wanted.detach()):
        (ga,) = torch.autograd.grad(wanted, a, g, retain_graph=True)
        (gb,) = torch.autograd.grad(got, b, g, retain_graph=True)
        torch.testing.assert_close(gb, ga)


@pytest.mark.parametrize("name", list(POOLS))
def test_other_inputs_are_not_affected(name: str) -> None:
    plain, kept = pooled(name)
    x = torch.randn(4, 3, 7, 6)
    # without a batch axis Upsample takes the image for a signal, which has no bilinear
    views = [] if name == "bilinear" else [x[0]]
    for view in (*views, x, x[:1], x.to(memory_format=torch.channels_last), batch_last(torch.randn(4, 5, 7, 6))[:, 1:4]):
        assert torch.equal(kept(view), plain(view))
        assert kept(view).stride() == plain(view).stride()


def test_indices_are_the_same() -> None:
    plain, kept = nn.MaxPool2d(2, return_indices=True), MaxPool2d(2, return_indices=True)
    x = torch.randn(5, 3, 6, 6)
    for one, other in zip(plain(x), kept(batch_last(x)), strict=True):
        assert torch.equal(one, other)


def test_in_place_code_may_follow() -> None:
    model = nn.Sequential(MaxPool2d(2), nn.ReLU(inplace=True))
    x = batch_last(torch.randn(5, 3, 6, 6)).requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None


def test_hooks_of_the_user_see_images() -> None:
    pool = MaxPool2d(2)
    seen: list[tuple[int, ...]] = []
    pool.register_forward_hook(lambda _m, args, out: seen.extend([tuple(args[0].shape), tuple(out.shape)]))
    pool(batch_last(torch.randn(5, 4, 6, 6)))
    assert seen == [(5, 4, 6, 6), (5, 4, 3, 3)]
