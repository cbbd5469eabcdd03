"""Import from and export to the locally connected class that PyTorch's forum passes around."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from efcn_kernels import LocallyConnected1d, LocallyConnected2d


class ForumLocallyConnected2d(nn.Module):
    """The class as it is copied, in float64."""

    def __init__(self, in_channels: int, out_channels: int, output_size: tuple[int, int], kernel_size: int, stride: int, bias: bool = False) -> None:
        super().__init__()
        output_size = _pair(output_size)
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, output_size[0], output_size[1], kernel_size**2, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(1, out_channels, output_size[0], output_size[1], dtype=torch.float64)) if bias else None
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)

    def forward(self, x: Tensor) -> Tensor:
        kh, kw = self.kernel_size
        dh, dw = self.stride
        x = x.unfold(2, kh, dh).unfold(3, kw, dw)
        x = x.contiguous().view(*x.size()[:-2], -1)
        # sum in the in_channel and kernel_size dims
        out = (x.unsqueeze(1) * self.weight).sum([2, -1])
        if self.bias is not None:
            out += self.bias
        return out


CASES = [((6, 7), 3, 1, True), ((9, 8), 3, 2, False), ((5, 5), 1, 1, True), ((8, 6), 2, 2, True), ((4, 4), 4, 1, False)]


@pytest.mark.parametrize(("size", "kernel", "stride", "bias"), CASES)
def test_there_and_back(size: tuple[int, int], kernel: int, stride: int, bias: bool) -> None:
    out = ((size[0] - kernel) // stride + 1, (size[1] - kernel) // stride + 1)
    forum = ForumLocallyConnected2d(3, 4, out, kernel, stride, bias)
    layer = LocallyConnected2d.from_lc(forum.weight, forum.bias, size, kernel, stride)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), forum(x))
    weight, offset = layer.to_lc()
    assert torch.equal(weight, forum.weight)
    if forum.bias is None:
        assert offset is None
    else:
        assert offset is not None
        assert torch.equal(offset, forum.bias)


def test_a_padded_layer_exports_dead_taps_as_zero() -> None:
    """The forum's class pads outside: its weights under the padding meet only zeros."""
    layer = LocallyConnected2d(2, 3, 5, 3, stride=2, padding=1, dtype=torch.float64)
    weight, bias = layer.to_lc()
    forum = ForumLocallyConnected2d(2, 3, (3, 3), 3, 2, True)
    assert bias is not None
    forum.weight.data.copy_(weight)
    assert forum.bias is not None
    forum.bias.data.copy_(bias)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(forum(nn.functional.pad(x, (1, 1, 1, 1))), layer(x))
    assert (weight[0, :, :, 0, 0, 0] == 0).all()
    again = LocallyConnected2d.from_lc(weight, bias, 5, 3, 2, 1)
    assert torch.equal(again.weight, layer.weight)


def test_other_dimensions_and_dilation() -> None:
    layer = LocallyConnected1d(2, 3, 9, 3, 2, 1, dilation=2, dtype=torch.float64)
    weight, bias = layer.to_lc()
    assert weight.shape == (1, 3, 2, 4, 3)
    again = LocallyConnected1d.from_lc(weight, bias, 9, 3, 2, 1, 2)
    x = torch.randn(2, 2, 9, dtype=torch.float64)
    assert torch.equal(again(x), layer(x))


def test_what_does_not_fit_is_refused_with_both_shapes() -> None:
    good = torch.zeros(1, 3, 2, 3, 3, 9)
    with pytest.raises(ValueError, match=re.escape("= (1, 3, 2, 4, 4, 9), got (1, 3, 2, 3, 3, 9)")):
        LocallyConnected2d.from_lc(good, None, 6, 3)
    with pytest.raises(ValueError, match=re.escape("(1, 3, 2, 3, 9)")):
        LocallyConnected2d.from_lc(good[..., 0, :], None, 5, 3)
    with pytest.raises(ValueError, match=re.escape("= (1, 3, 3, 3), got (3,)")):
        LocallyConnected2d.from_lc(good, torch.zeros(3), 5, 3)
    for layer in (
        LocallyConnected2d(2, 2, 5, 3, groups=2),
        LocallyConnected2d(2, 2, 5, 3, support=1),
        LocallyConnected2d(1, 1, 2, 3, padding=1, padding_mode="replicate"),
    ):
        with pytest.raises(ValueError, match="format holds neither"):
            layer.to_lc()
