"""Convolutions of every kind against torch's own, by random configurations, in float64."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

from efcn_kernels import BlockLayout, ConvGeometry, EFCNLinear, cnn_to_efcn, efcn_to_cnn
from efcn_kernels.nn import LOCALLY_CONNECTED
from efcn_kernels.pattern.sharing import share, unshare
from tests.support.halo_oracle import taps_of, window_of
from tests.support.strategies import Case, convolutions, examples, transposed_convolutions


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal but for the order of summation: a few hundred terms of size one in float64."""
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def layer_of(case: Case, conv: Any, support: Any = "local") -> Any:
    kind = LOCALLY_CONNECTED[case.axes]
    if not case.asymmetric:
        return kind.from_conv(conv, case.input_size, support)
    layer: Any = kind(
        case.in_channels,
        case.out_channels,
        case.input_size,
        case.kernel_size,
        case.stride,
        case.padding,
        case.dilation,
        case.groups,
        case.bias,
        case.padding_mode,
        dtype=torch.float64,
        support=support,
    )
    with torch.no_grad():
        layer.weight.copy_(unshare(conv.weight, layer.geometry, layer.local_layout))
        if layer.off_weight is not None:
            layer.off_weight.zero_()
        if case.bias:
            layer.bias.copy_(conv.bias.reshape(case.groups, -1).repeat(layer.layout.out_sites // case.groups, 1))
    return layer


def check_function(case: Case, support: Any = "local") -> None:
    conv, x = case.conv(), case.image()
    wanted = case.forward(conv, x)
    layer = layer_of(case, conv, support)
    assert layer.geometry.output_size == tuple(wanted.shape[2:])
    assert layer.geometry == case.geometry()
    y = layer(x)
    assert y.shape == wanted.shape
    close(y, wanted)
    bias = 0 if layer.bias is None else layer.bias.unflatten(0, (-1, case.groups)).permute(1, 2, 0).reshape(-1)
    close(x.flatten(1) @ layer.to_dense().T + bias, wanted.flatten(1))


@examples(1000)
@given(convolutions())
def test_locally_connected_equals_torch(case: Case) -> None:
    check_function(case)


@examples(400)
@given(transposed_convolutions())
def test_transposed_equals_torch(case: Case) -> None:
    check_function(case)


@examples(150)
@given(convolutions())
def test_a_wider_support_changes_nothing(case: Case) -> None:
    check_function(case, support=1)
    check_function(case, support="full")


@examples(100)
@given(transposed_convolutions())
def test_a_wider_support_changes_nothing_transposed(case: Case) -> None:
    check_function(case, support=1)
    check_function(case, support="full")


@examples(200)
@given(convolutions(asymmetric=False))
def test_efcn_linear_equals_torch_on_flattened_images(case: Case) -> None:
    conv, x = case.conv(), case.image(3)
    layer = EFCNLinear.from_conv(conv, case.input_size)
    close(layer(x.flatten(1)), case.forward(conv, x).flatten(1))
    close(torch.nn.functional.linear(x.flatten(1), layer.to_dense()), case.forward(conv, x).flatten(1) - layer(torch.zeros_like(x).flatten(1)))


def check_round_trip(case: Case) -> None:
    conv, x = case.conv(), case.image()
    back: Any = layer_of(case, conv).to_conv()
    assert type(back) is type(conv)
    assert (back.stride, back.dilation, back.groups, back.padding_mode) == (conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    close(case.forward(back, x), case.forward(conv, x))
    if case.padding_mode == "zeros":
        # no two taps meet, so each tap with a live read comes back itself; the others are zero
        live = torch.zeros(case.geometry().num_taps, dtype=torch.bool)
        live[[k for _, _, k in taps_of(case)]] = True
        close(back.weight.flatten(2), conv.weight.flatten(2) * live)


@examples(300)
@given(convolutions(asymmetric=False))
def test_round_trip(case: Case) -> None:
    check_round_trip(case)


@examples(150)
@given(transposed_convolutions())
def test_round_trip_transposed(case: Case) -> None:
    check_round_trip(case)


@examples(100)
@given(convolutions(asymmetric=False))
def test_round_trip_of_a_network(case: Case) -> None:
    if case.padding == "same" and any(k % 2 == 0 for k in case.kernel_size):
        # torch warns of its own copy for these, which the trial run would raise
        return
    model = nn.Sequential(case.conv(), nn.Tanh())
    x = case.image()
    efcn = cnn_to_efcn(model, x)
    close(efcn(x), model(x))
    close(efcn_to_cnn(efcn)(x), model(x))


@examples(150)
@given(convolutions())
def test_share_is_the_least_squares_projection(case: Case) -> None:
    """The nearest shared blocks leave a residual orthogonal to every convolution."""
    geometry = case.geometry()
    layout = BlockLayout.from_conv(geometry)
    values = torch.randn(layout.nnzb, *layout.block, dtype=torch.float64)
    residual = values - unshare(share(values, geometry, layout), geometry, layout)
    for _ in range(2):
        other = unshare(torch.randn_like(case.conv().weight), geometry, layout)
        assert abs(float((residual * other).sum())) <= 1e-9 * float(values.norm() * other.norm() + 1)


@examples(200)
@given(convolutions())
def test_taps_are_those_of_a_naive_loop(case: Case) -> None:
    taps = case.geometry().taps()
    assert sorted(zip(*(a.tolist() for a in taps))) == sorted(taps_of(case))


@examples(100)
@given(transposed_convolutions())
def test_transposed_taps_are_those_of_a_naive_loop(case: Case) -> None:
    taps = case.geometry().taps()
    assert sorted(zip(*(a.tolist() for a in taps))) == sorted(taps_of(case))


def check_halo(case: Case, radius: int) -> None:
    geometry = case.geometry()
    layout = BlockLayout.from_conv(geometry, halo=radius)
    near, own = window_of(case, radius), {(o, i) for o, i, _ in taps_of(case)}
    groups = geometry.groups
    wanted = sorted((o * groups + g, i * groups + g) for o, i in near for g in range(groups))
    found = list(zip(layout.row.tolist(), layout.col.tolist()))
    assert found == wanted
    flags = [(p // groups, q // groups) in own for p, q in found]
    assert layout.local.tolist() == flags


@examples(200)
@given(convolutions())
def test_halo_is_the_chebyshev_neighbourhood_of_the_taps(case: Case) -> None:
    for radius in (0, 1, 2):
        check_halo(case, radius)


@examples(150)
@given(transposed_convolutions())
def test_halo_of_a_transposed_convolution(case: Case) -> None:
    for radius in (0, 1, 2):
        check_halo(case, radius)


def test_a_halo_that_covers_the_image_is_full() -> None:
    geometry = ConvGeometry.make(2, 3, (5, 4), 3, padding=1)
    wide, full = BlockLayout.from_conv(geometry, halo=5), BlockLayout.from_support(geometry, "full")
    assert wide.nnzb == full.nnzb == 20 * 20
    assert (wide.local == full.local).all()


GOOD: dict[str, Any] = {"in_channels": 4, "out_channels": 6, "input_size": (8, 9), "kernel_size": 3}


@pytest.mark.parametrize(
    ("change", "given_value"),
    [
        ({"in_channels": 0}, "0"),
        ({"out_channels": -3}, "-3"),
        ({"input_size": ()}, "()"),
        ({"input_size": (3, 4, 5, 6)}, "(3, 4, 5, 6)"),
        ({"input_size": (8, 0)}, "(8, 0)"),
        ({"kernel_size": 0}, "0"),
        ({"kernel_size": (3, 3, 3)}, "(3, 3, 3)"),
        ({"kernel_size": 2.5}, "2.5"),
        ({"stride": 0}, "0"),
        ({"stride": (1, 2, 3)}, "(1, 2, 3)"),
        ({"dilation": 0}, "0"),
        ({"dilation": True}, "True"),
        ({"padding": -1}, "-1"),
        ({"padding": "sane"}, "'sane'"),
        ({"padding": ((1, 2, 3), 0)}, "(1, 2, 3)"),
        ({"padding": (1, 1, 1)}, "(1, 1, 1)"),
        ({"padding": "same", "stride": 2}, "(2, 2)"),
        ({"groups": 0}, "0"),
        ({"groups": 4}, "4 -> 6"),
        ({"padding_mode": "mirror"}, "'mirror'"),
        ({"padding_mode": "reflect", "padding": 8}, "(8, 8)"),
        ({"padding_mode": "circular", "padding": 9}, "(9, 9)"),
        ({"kernel_size": 11}, "(11, 11)"),
        ({"kernel_size": 3, "dilation": 4}, "(4, 4)"),
        ({"output_padding": 1}, "(1, 1)"),
        ({"transposed": True, "padding_mode": "reflect", "padding": 1}, "'reflect'"),
        ({"transposed": True, "padding": 6}, "((6, 6), (6, 6))"),
        ({"transposed": True, "stride": 2, "output_padding": 2}, "(2, 2)"),
    ],
)
def test_errors_repeat_what_was_given(change: dict[str, Any], given_value: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(given_value)):
        ConvGeometry.make(**GOOD | change)


def test_errors_of_of_and_window() -> None:
    with pytest.raises(ValueError, match=re.escape("(5, 5, 5)")):
        ConvGeometry.of(nn.Conv2d(1, 1, 3), (5, 5, 5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        ConvGeometry.make(**GOOD).window(-1)


def test_geometry_is_a_value() -> None:
    a, b = ConvGeometry.make(**GOOD), ConvGeometry.make(**GOOD | {"kernel_size": (3, 3), "padding": "valid"})
    assert a == b
    assert hash(a) == hash(b)
    assert a != ConvGeometry.make(**GOOD | {"padding": 1})
    assert (a.out_sites, a.in_sites, a.block, a.num_taps, a.output_size) == (6 * 7, 72, (6, 4), 9, (6, 7))


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [*itertools.product([(1, 1), (41, 3)], [1, 3], [1, 2], [1])])
def test_odd_sizes(size: tuple[int, int], kernel: int, stride: int, padding: int) -> None:
    case = Case(2, 3, 2, size, (kernel,) * 2, (stride,) * 2, (1, 1), 1, ((padding,) * 2,) * 2, "zeros", True)
    check_function(case)
