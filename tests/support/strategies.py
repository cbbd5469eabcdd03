"""Random convolutions for the property tests: every kind that torch has, at sizes small enough for thousands of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from efcn_kernels.pattern.geometry import ConvGeometry

CONVS: dict[tuple[int, bool], Any] = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}
_MAX_PIXELS = {1: 9, 2: 6, 3: 4}
_MAX_KERNEL = {1: 5, 2: 4, 3: 3}


def examples(fast: int) -> settings:
    """So many examples in the fast profile, twenty times as many in the thorough one."""
    thorough = settings.get_current_profile_name() == "thorough"
    return settings(max_examples=fast * 20 if thorough else fast)


@dataclass(frozen=True)
class Case:
    """One convolution at one input size. `padding` is "same", "valid" or (before, after) pairs."""

    axes: int
    in_channels: int
    out_channels: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: str | tuple[tuple[int, int], ...]
    padding_mode: str
    bias: bool
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    @property
    def asymmetric(self) -> bool:
        return not isinstance(self.padding, str) and any(a != b for a, b in self.padding)

    def conv(self, dtype: torch.dtype = torch.float64) -> Any:
        """torch's own module; where the sides differ it has no padding of its own, see `forward`."""
        padding: Any = self.padding
        if not isinstance(padding, str):
            padding = 0 if self.asymmetric else tuple(a for a, _ in padding)
        extra = {"output_padding": self.output_padding} if self.transposed else {}
        return CONVS[self.axes, self.transposed](
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
            padding_mode=self.padding_mode,
            dtype=dtype,
            **extra,
        )

    def forward(self, conv: Any, x: Tensor) -> Tensor:
        """torch's result, with F.pad where the two sides differ."""
        if self.asymmetric:
            pairs = [] if isinstance(self.padding, str) else self.padding
            sides = [n for pair in reversed(pairs) for n in pair]
            x = F.pad(x, sides, mode="constant" if self.padding_mode == "zeros" else self.padding_mode)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")
            y: Tensor = conv(x)
        return y

    def geometry(self) -> ConvGeometry:
        return ConvGeometry.make(
            self.in_channels,
            self.out_channels,
            self.input_size,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.padding_mode,
            self.transposed,
            self.output_padding or 0,
        )

    def image(self, n: int = 2) -> Tensor:
        return torch.randn(n, self.in_channels, *self.input_size, dtype=torch.float64)


@st.composite
def _channels(draw: st.DrawFn) -> tuple[int, int, int]:
    """(in, out, groups); one time in three depthwise."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    ci = draw(st.sampled_from([1, 1, 2, 3]))
    co = draw(st.integers(1, 3))
    return groups * ci, groups * co, groups


@st.composite
def convolutions(draw: st.DrawFn, *, asymmetric: bool = True) -> Case:
    """Ordinary convolutions in 1, 2 and 3 dimensions with every padding and padding mode."""
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    ins, outs, groups = draw(_channels())
    kernel = tuple(draw(st.integers(1, _MAX_KERNEL[axes])) for _ in range(axes))
    dilation = tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in range(axes))
    mode = draw(st.sampled_from(["zeros", "zeros", "circular", "reflect", "replicate"]))
    kind = draw(st.sampled_from(["same", "valid", "pairs", "pairs", *(["uneven"] if asymmetric else [])]))
    stride = tuple(1 if kind == "same" else draw(st.integers(1, 3)) for _ in range(axes))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    if kind == "same":
        pairs = [((r - 1) // 2, r - 1 - (r - 1) // 2) for r in reach]
    elif kind == "valid":
        pairs = [(0, 0)] * axes
    elif kind == "pairs":
        pairs = [(p, p) for p in (draw(st.integers(0, 3)) for _ in range(axes))]
    else:
        pairs = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(axes)]
    least = {"reflect": 1, "circular": 0}.get(mode)
    size = []
    for r, pair in zip(reach, pairs):
        low = max(1, r - sum(pair), 0 if least is None else max(pair) + least)
        size.append(draw(st.integers(low, max(low, _MAX_PIXELS[axes]))))
    padding: Any = kind if kind in ("same", "valid") else tuple(pairs)
    return Case(axes, ins, outs, tuple(size), kernel, stride, dilation, groups, padding, mode, draw(st.booleans()))


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> Case:
    """Transposed convolutions; output_padding stays below stride or dilation, as torch asks."""
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    ins, outs, groups = draw(_channels())
    kernel = tuple(draw(st.integers(1, _MAX_KERNEL[axes])) for _ in range(axes))
    dilation = tuple(draw(st.sampled_from([1, 1, 2])) for _ in range(axes))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    size, pairs = [], []
    for k, d, s, o in zip(kernel, dilation, stride, extra):
        n = draw(st.integers(1, 4))
        longest = (n - 1) * s + d * (k - 1) + 1 + o
        p = draw(st.integers(0, min(2, (longest - 1) // 2)))
        size.append(n)
        pairs.append((p, p))
    return Case(
        axes,
        ins,
        outs,
        tuple(size),
        kernel,
        stride,
        dilation,
        groups,
        tuple(pairs),
        "zeros",
        draw(st.booleans()),
        transposed=True,
        output_padding=extra,
    )
