"""The layers: construction, initialisation, shapes, conversions, messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor, nn

from efcn_kernels import BlockLayout, EFCNLinear, LocallyConnected1d, LocallyConnected2d, LocallyConnected3d, batch_last
from efcn_kernels.nn import LOCALLY_CONNECTED, LocallyConnected
from tests.support.oracle import dense, random_layout


def uniformity(sample: Tensor, bound: float) -> float:
    """p-value of `sample` being uniform within the bound."""
    return float(stats.kstest(sample.detach().flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue)


def test_initialisation_of_a_full_layout_is_that_of_linear() -> None:
    layer = EFCNLinear(60, 200, BlockLayout.full(20, 12, (10, 5)))
    assert uniformity(layer.weight, 60**-0.5) > 1e-3
    assert layer.bias is not None
    assert uniformity(layer.bias, 60**-0.5) > 1e-3
    torch_layer = nn.Linear(60, 200)
    assert stats.ks_2samp(layer.weight.detach().flatten(), torch_layer.weight.detach().flatten()).pvalue > 1e-3


def test_initialisation_is_bounded_by_the_real_fan_in() -> None:
    """Corner outputs of a padded layer hear fewer inputs and so start larger."""
    layer = LocallyConnected2d(20, 30, 4, 3, padding=1)
    assert layer.bias is not None
    for site, live in [(0, 4), (1, 6), (5, 9), (15, 4)]:
        bound = (20 * live) ** -0.5
        own = layer.weight[torch.from_numpy(layer.layout.row == site)]
        assert own.numel() == live * 600
        assert uniformity(own, bound) > 1e-3
        assert layer.bias[site].abs().max() <= bound
    inner = nn.Conv2d(20, 30, 3)
    assert stats.ks_2samp(layer.weight[torch.from_numpy(layer.layout.row == 5)].detach().flatten(), inner.weight.detach().flatten()).pvalue > 1e-3


def test_initialisation_of_masked_empty_and_wider_layouts() -> None:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[0, 0] = mask[1, :4] = True
    layer = EFCNLinear(6, 4, BlockLayout.from_mask(mask, (2, 3)))
    weight = layer.to_dense().detach()
    assert (weight[~mask] == 0).all()
    assert (weight[mask] != 0).all()
    assert weight[1].abs().max() <= 4**-0.5
    assert layer.bias is not None
    assert (layer.bias[1] == 0).all(), "an output without inputs has no fan-in to scale by"
    wide = LocallyConnected2d(20, 30, 5, 3, support="full")
    assert wide.off_weight is not None
    for weights in (wide.weight, wide.off_weight):
        assert uniformity(weights, (20 * 25) ** -0.5) > 1e-3
    EFCNLinear(6, 4, BlockLayout(2, 2, (2, 3), [0, 0, 0], []))


def test_reset_parameters_draws_again_and_is_seeded() -> None:
    layer = LocallyConnected2d(2, 3, 5, 3)
    first = layer.weight.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.weight, first)
    torch.manual_seed(4)
    layer.reset_parameters()
    one = layer.weight.detach().clone()
    torch.manual_seed(4)
    assert torch.equal(LocallyConnected2d(2, 3, 5, 3).weight, one)


def test_efcn_linear_is_a_linear() -> None:
    layout = random_layout(5, 4, (3, 2), 0.5)
    layer = EFCNLinear(8, 15, layout)
    weight = dense(layer.weight, layout).reshape(15, 8)
    assert torch.equal(layer.to_dense(), weight)
    assert layer.bias is not None
    for shape in [(8,), (1, 8), (7, 8), (3, 7, 8), (2, 3, 1, 8), (0, 8), (3, 0, 8)]:
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, weight, layer.bias.reshape(-1)), rtol=1e-5, atol=1e-6)
    assert EFCNLinear(8, 15, layout, bias=False).bias is None
    for bad in [(7, 9), (), (8, 1)]:
        with pytest.raises(ValueError, match=re.escape(f"(..., 8), got {bad}")):
            layer(torch.zeros(bad))
    with pytest.raises(ValueError, match="8 and 15, got 9 and 15"):
        EFCNLinear(9, 15, layout)


def test_dtype_device_and_count() -> None:
    layer = LocallyConnected2d(2, 3, 5, 3, dtype=torch.float64, device="cpu")
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert layer.weight_count == 9 * 9 * 6 + 9 * 3
    assert layer.half()(torch.randn(2, 2, 5, 5).half()).dtype == torch.float16
    meta = EFCNLinear(6, 4, BlockLayout.full(2, 2, (2, 3)), device="meta")
    assert meta.weight.is_meta


@pytest.mark.parametrize(
    ("layer", "image", "out"),
    [
        (LocallyConnected1d(2, 3, 7, 3, 2, 1), (2, 7), (3, 4)),
        (LocallyConnected1d(2, 3, (7,), (3,), padding="same"), (2, 7), (3, 7)),
        (LocallyConnected2d(2, 3, (5, 6), (3, 2), (2, 1)), (2, 5, 6), (3, 2, 5)),
        (LocallyConnected2d(2, 3, 5, 3, padding=((0, 2), (1, 0))), (2, 5, 5), (3, 5, 4)),
        (LocallyConnected3d(2, 4, (3, 4, 5), 2, groups=2), (2, 3, 4, 5), (4, 2, 3, 4)),
    ],
)
def test_shapes(layer: Any, image: tuple[int, ...], out: tuple[int, ...]) -> None:
    for n in (0, 1, 5):
        assert layer(torch.zeros(n, *image)).shape == (n, *out)
    one = torch.randn(image)
    assert layer(one).shape == out
    torch.testing.assert_close(layer(one), layer(one.unsqueeze(0))[0])
    for bad in [(2, *image[:-1], image[-1] + 1), (5, image[0] + 1, *image[1:]), (1, 1, *image), image[1:]]:
        with pytest.raises(ValueError, match=re.escape(f"got {bad}")):
            layer(torch.zeros(bad))


def test_memory_orders_of_images() -> None:
    """Contiguous in, contiguous out; batch-last in, batch-last out; any order gives the same numbers."""
    for groups in (1, 2):
        layer = LocallyConnected2d(4, 6, 5, 3, padding=1, groups=groups)
        x = torch.randn(7, 4, 5, 5)
        wanted = layer(x)
        assert wanted.is_contiguous()
        laid = layer(batch_last(x))
        assert laid.stride(0) == 1
        assert laid.permute(2, 3, 1, 0).is_contiguous()
        last = layer(x.to(memory_format=torch.channels_last))
        if groups == 1:
            assert last.is_contiguous(memory_format=torch.channels_last)
        for y in (laid, last, layer(x.flip(0).flip(0)), layer(torch.stack([x, x])[1])):
            torch.testing.assert_close(y, wanted)
        layer.batch_last = True
        assert layer(x).stride(0) == 1
        torch.testing.assert_close(layer(x), wanted)
        assert layer(x[:1]).shape == (1, 6, 5, 5)


def test_the_repr_names_the_sizes_and_what_differs_from_the_defaults() -> None:
    assert repr(LocallyConnected2d(2, 3, 5, 3)) == "LocallyConnected2d(2, 3, input_size=(5, 5), kernel_size=(3, 3))"
    assert repr(LocallyConnected2d(2, 3, 5, 3, support=1)) == "LocallyConnected2d(2, 3, input_size=(5, 5), kernel_size=(3, 3), off_local_blocks=88)"
    given: dict[str, Any] = {"stride": 2, "padding": ((0, 1), (0, 1)), "dilation": 1, "groups": 2, "padding_mode": "circular", "bias": False}
    differs = "stride=(2, 2), padding=((0, 1), (0, 1)), groups=2, padding_mode='circular', bias=False"
    assert repr(LocallyConnected2d(2, 4, 6, 3, **given)) == f"LocallyConnected2d(2, 4, input_size=(6, 6), kernel_size=(3, 3), {differs})"
    transposed = LocallyConnected1d.from_conv(nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1), 5)
    assert "stride=(2,), padding=(1,), transposed=True, output_padding=(1,)" in repr(transposed)
    assert "in_features=27, out_features=4, bias=True" in repr(EFCNLinear(27, 4, BlockLayout.full(4, 27)))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, padding_mode="circular"),
        nn.Conv1d(4, 6, 3),
        nn.ConvTranspose3d(2, 3, 2, stride=2, output_padding=1),
    ],
    ids=str,
)
def test_a_layer_has_the_attributes_of_its_convolution(conv: Any) -> None:
    layer = LOCALLY_CONNECTED[len(conv.kernel_size)].from_conv(conv, 8)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(layer, name) == getattr(conv, name), name
    assert (layer.transposed, layer.output_padding) == (conv.transposed, conv.output_padding)
    assert layer.input_size == (8,) * layer.axes
    assert layer.output_size == tuple(conv(torch.zeros(1, conv.in_channels, *layer.input_size)).shape[2:])
    assert layer.weight.dtype == conv.weight.dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LocallyConnected2d(3, 4, 3, padding=1),
            "LocallyConnected2d takes the size of its images before .* got 3 for input_size and no kernel",
        ),
        (lambda: LocallyConnected2d(3, 4, 5, 3, paddding=1), "LocallyConnected2d takes no paddding=1, did you mean padding?"),
        (lambda: LocallyConnected(3, 4, 5, 3), "LocallyConnected is the base of LocallyConnected1d, LocallyConnected2d and LocallyConnected3d"),
        (lambda: LocallyConnected1d(3, 4, 5, 3, size=9), "LocallyConnected1d takes no size=9"),
        (lambda: LocallyConnected2d(3, 4, 5, 3, colour=1), "takes no colour=1; it takes in_channels, out_channels, input_size, kernel_size"),
        (lambda: EFCNLinear(4, 4, BlockLayout.full(4, 4), bais=False), "EFCNLinear takes no bais=False, did you mean bias?"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        make()


@pytest.mark.parametrize(("name", "meant"), [("values", "weight"), ("weights", "weight"), ("off_values", "off_weight")])
def test_the_names_that_weights_are_asked_by(name: str, meant: str) -> None:
    layer = LocallyConnected2d(3, 4, 5, 3)
    with pytest.raises(AttributeError, match=f"LocallyConnected2d has no {name!r}, did you mean {meant!r}"):
        getattr(layer, name)
    with pytest.raises(AttributeError, match="object has no attribute 'nonsense'"):
        layer.nonsense  # noqa: B018


def test_wrong_dimensions_are_refused_by_value() -> None:
    with pytest.raises(ValueError, match=re.escape("(5, 5, 5)")):
        LocallyConnected2d(2, 3, (5, 5, 5), 3)
    with pytest.raises(ValueError, match=re.escape("(5,)")):
        LocallyConnected2d.from_conv(nn.Conv2d(1, 1, 3), (5,))
    with pytest.raises(ValueError, match="2 spatial axes"):
        LocallyConnected1d.from_conv(nn.Conv2d(1, 1, 3), 5)
    with pytest.raises((TypeError, ValueError), match=r"5\.5"):
        LocallyConnected2d(2, 3, 5.5, 3)  # type: ignore[arg-type]


def test_to_conv_is_the_mean_over_sites_by_hand() -> None:
    """Two outputs, a kernel of two taps on three pixels: tap k of output o is the block (o, o + k)."""
    layer = LocallyConnected1d(1, 1, 3, 2)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 10.0, 3.0, 30.0]).view(4, 1, 1))
        layer.bias.copy_(torch.tensor([[5.0], [7.0]]))
    conv = layer.to_conv()
    assert isinstance(conv, nn.Conv1d)
    assert conv.weight.flatten().tolist() == [2.0, 20.0]
    assert conv.bias is not None
    assert conv.bias.tolist() == [6.0]


def test_to_conv_counts_live_taps_only() -> None:
    """With padding a tap over the border has fewer sites: its mean is over those."""
    layer = LocallyConnected1d(1, 1, 2, 3, padding=1, bias=False)
    with torch.no_grad():
        # blocks (0,0) (0,1) (1,0) (1,1): taps 1, 2, 0, 1
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 5.0]).view(4, 1, 1))
    assert layer.to_conv().weight.flatten().tolist() == [3.0, 3.0, 2.0]
    with pytest.raises(ValueError, match=re.escape("((1, 0),)")):
        LocallyConnected1d(1, 1, 4, 3, padding=((1, 0),)).to_conv()


def test_to_conv_drops_off_local_weights() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1)
    layer = LocallyConnected2d.from_conv(conv, 5, support="full")
    assert layer.off_weight is not None
    with torch.no_grad():
        layer.off_weight.normal_()
    torch.testing.assert_close(layer.to_conv().weight, conv.weight)


@pytest.mark.parametrize("channels_first", [False, True])
def test_from_linear_from_dense_to_dense_to_bsr_agree(channels_first: bool) -> None:
    mask = torch.rand(12, 12) > 0.4
    for groups, layout in [
        (1, random_layout(4, 6, (3, 2), 0.6)),
        (2, random_layout(4, 6, (3, 2), 0.6)),
        (1, BlockLayout.from_mask(mask, (3, 2))),
        (1, BlockLayout.full(4, 6, (3, 2))),
    ]:
        local = torch.rand(layout.nnzb) > 0.3
        ordered = BlockLayout(4, 6, (3, 2), layout.crow, layout.col, local=local, mask=layout.mask, groups=groups, channels_first=channels_first)
        linear = nn.Linear(12, 12)
        layer = EFCNLinear.from_linear(linear, ordered)
        kept = EFCNLinear.from_dense(torch.ones(12, 12), ordered).to_dense()
        assert int(kept.sum()) == ordered.nnz
        torch.testing.assert_close(layer.to_dense(), linear.weight * kept)
        x = torch.randn(5, 12)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, linear.weight * kept, linear.bias))
        again = EFCNLinear.from_dense(layer.to_dense(), ordered)
        assert torch.equal(again.to_dense(), layer.to_dense())
        assert again.weight.requires_grad
        assert not EFCNLinear.from_linear(nn.Linear(12, 12).requires_grad_(False), ordered).weight.requires_grad
        if not channels_first:
            assert torch.equal(_bsr_dense(layer), layer.to_dense())
    with pytest.raises(ValueError, match=re.escape("(12, 12), got (12, 13)")):
        EFCNLinear.from_dense(torch.zeros(12, 13), layout)


def _bsr_dense(layer: Any) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)
        whole: Tensor = layer.to_bsr().to_dense()
    return whole


def test_to_bsr_of_a_convolution_is_in_site_order() -> None:
    layer = LocallyConnected2d(2, 3, 4, 3, support=1)
    by_site = _bsr_dense(layer).reshape(4, 3, 16, 2)
    assert torch.equal(by_site.permute(1, 0, 3, 2).reshape(12, 32), layer.to_dense())


def test_to_dense_is_differentiable() -> None:
    layer = LocallyConnected2d(1, 2, 3, 2, support=1).double()
    x = torch.randn(4, 9, dtype=torch.float64)
    torch.autograd.backward((x @ layer.to_dense().T).square().sum())
    assert layer.weight.grad is not None
    assert layer.off_weight is not None
    wanted = layer.weight.grad.clone(), layer.off_weight.grad
    layer.zero_grad()
    assert layer.bias is not None
    (layer(x.view(4, 1, 3, 3)).flatten(1) - layer.bias.T.reshape(-1)).square().sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close((layer.weight.grad, layer.off_weight.grad), wanted)


def test_from_conv_and_from_linear_keep_training_state() -> None:
    conv = nn.Conv2d(1, 2, 3).eval().requires_grad_(False).double()
    for layer in (LocallyConnected2d.from_conv(conv, 4, 1), EFCNLinear.from_conv(conv, 4, 1)):
        assert not layer.training
        assert all(not p.requires_grad and p.dtype == torch.float64 for p in layer.parameters())
        assert len(list(layer.parameters())) == 3
    back = LocallyConnected2d.from_conv(conv, 4).to_conv()
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    assert back.weight.dtype == torch.float64
    linear = nn.Linear(6, 4).eval()
    linear.bias.requires_grad_(False)
    layer = EFCNLinear.from_linear(linear, BlockLayout.full(2, 2, (2, 3)))
    assert not layer.training
    assert layer.bias is not None
    assert [layer.weight.requires_grad, layer.bias.requires_grad] == [True, False]
