"""BatchNorm on batch-last images: torch's results in every mode, and the memory order kept."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efcn_kernels import batch_last
from efcn_kernels.mapping.copies import BATCH_LAST, with_modules
from efcn_kernels.nn import BatchNorm2d

N, C = 5, 3
SIZES = {"1d": (7,), "2d": (4, 6), "3d": (2, 3, 4), "one pixel": (1, 1), "one row": (1, 5)}
KINDS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
OPTIONS: list[dict[str, Any]] = [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}, {"momentum": 0.0, "eps": 0.1}]


def norms(sizes: tuple[int, ...], options: dict[str, Any], training: bool, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    """torch's own, and the one that has been told to keep the order, with equal state far from the initial one."""
    plain = KINDS[len(sizes)](C, **options, dtype=dtype).train(training)
    with torch.no_grad():
        for p in plain.parameters():
            p.normal_()
    if plain.running_mean is not None:
        plain.running_mean.normal_()
        plain.running_var.uniform_(0.5, 2)
    kept = with_modules(plain, {}, kinds=BATCH_LAST)
    return plain, pickle.loads(pickle.dumps(kept))


def gradients(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """In every order that a gradient arrives in: those of views, of sums and means, and channels_last's of the view (sites, C, N, 1)."""
    n, c, *sites = shape
    per_image = torch.randn(n, c, *[1] * len(sites), dtype=dtype)
    by_site = torch.randn(*sites, n, c, dtype=dtype).permute(-2, -1, *range(len(sites)))
    contiguous = torch.randn(shape, dtype=dtype)
    return [contiguous, batch_last(contiguous), by_site, contiguous.transpose(0, -1).contiguous().transpose(0, -1), per_image.expand(shape)]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", list(SIZES))
def test_the_same_values_gradients_and_statistics(size: str, options: dict[str, Any], training: bool) -> None:
    shape = (N, C, *SIZES[size])
    plain, kept = norms(SIZES[size], options, training)
    for _ in range(2):
        x = torch.randn(shape, dtype=torch.float64)
        a, b = x.clone().requires_grad_(), batch_last(x).requires_grad_()
        wanted, got = plain(a), kept(b)
        torch.testing.assert_close(got, wanted)
        assert got.stride() == b.stride()
        for g in gradients(shape, torch.float64):
            theirs = torch.autograd.grad(wanted, (a, *plain.parameters()), g, retain_graph=True)
            ours = torch.autograd.grad(got, (b, *kept.parameters()), g, retain_graph=True)
            for s, t in zip(ours, theirs, strict=True):
                torch.testing.assert_close(s, t)
    state = kept.state_dict()
    assert list(state) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_both_derivatives(options: dict[str, Any], training: bool) -> None:
    _, kept = norms((2, 3), options, training)
    names = [name for name, _ in kept.named_parameters()]

    def normalised(x: Tensor, *parameters: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(kept, dict(zip(names, parameters)), (x,))
        return y

    x = batch_last(torch.randn(N, C, 2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(normalised, (x, *kept.parameters()))
    assert torch.autograd.gradgradcheck(normalised, (x, *kept.parameters()))


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_of_some_only(needed: tuple[bool, bool, bool]) -> None:
    plain, kept = norms((4, 6), {}, True)
    x = torch.randn(N, C, 4, 6, dtype=torch.float64)
    found = []
    for norm, image in ((plain, x), (kept, batch_last(x))):
        leaves = (image.requires_grad_(needed[0]), *norm.parameters())
        for leaf, asked in zip(leaves, needed):
            leaf.requires_grad_(asked)
        norm(image).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for s, t in zip(*found, strict=True):
        assert (s is None) == (t is None)
        if s is not None and t is not None:
            torch.testing.assert_close(s, t)


def test_half_precision_images_and_float_parameters() -> None:
    """What autocast leads to."""
    plain, kept = norms((4, 6), {}, True, torch.float32)
    x = torch.randn(64, C, 4, 6).bfloat16()
    wanted, got = plain(x), kept(batch_last(x))
    assert got.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted)


def test_in_place_code_may_follow_and_costs_no_view() -> None:
    plain = nn.Sequential(nn.BatchNorm2d(C), nn.ReLU(inplace=True))
    model = nn.Sequential(BatchNorm2d(C), nn.ReLU(inplace=True))
    x = torch.randn(N, C, 4, 6)
    a, b = x.clone().requires_grad_(), batch_last(x).requires_grad_()
    plain(a).square().sum().backward()
    y = model(b)
    # in-place code on a view copies the whole base in the backward pass
    assert not y._is_view()
    y.square().sum().backward()
    torch.testing.assert_close(b.grad, a.grad)


def test_other_inputs_and_other_types_are_not_affected() -> None:
    plain, kept = norms((4, 6), {}, True, torch.float32)
    x = torch.randn(N, C, 4, 6)
    for view in (x, x.to(memory_format=torch.channels_last), batch_last(torch.randn(N, 5, 4, 6))[:, 1:4], x[:1]):
        assert torch.equal(kept(view), plain(view))
        assert kept(view).stride() == plain(view).stride()
    with pytest.raises(ValueError, match="expected 4D input"):
        kept(batch_last(torch.randn(N, C, 4)))
    others = nn.ModuleList([nn.SyncBatchNorm(C), nn.InstanceNorm2d(C), nn.GroupNorm(1, C)])
    assert [type(m) for m in with_modules(others, {}, kinds=BATCH_LAST).children()] == [type(m) for m in others]
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(kept)) is nn.SyncBatchNorm


def test_statistics_may_change_before_the_backward_pass() -> None:
    plain, kept = norms((4, 6), {}, True)
    x = torch.randn(N, C, 4, 6, dtype=torch.float64)
    found = []
    for norm, image in ((plain, x.clone()), (kept, batch_last(x))):
        y = norm(image.requires_grad_())
        norm(torch.randn(N, C, 4, 6, dtype=torch.float64))
        (gx,) = torch.autograd.grad(y.square().sum(), image)
        found.append(gx)
    torch.testing.assert_close(*found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled() -> None:
    torch._dynamo.reset()
    model = nn.Sequential(BatchNorm2d(C), nn.ReLU(inplace=True))
    eager = copy.deepcopy(model)
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (5, 9):
        x = batch_last(torch.randn(n, C, 4, 6))
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        torch.testing.assert_close(compiled(a), eager(b))
        compiled(a).square().sum().backward()
        eager(b).square().sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    for s, t in zip(model.state_dict().values(), eager.state_dict().values()):
        torch.testing.assert_close(s, t)
