"""Where a convolution reads: the integers that turn a convolution into a pattern of sites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from efcn_kernels.pattern.validation import integer

Ints = npt.NDArray[np.int32]
PerAxis = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]

PADDING_MODES = ("zeros", "circular", "reflect", "replicate")


class ConvLike(Protocol):
    """What `ConvGeometry.of` reads of a convolution: the attributes of torch's own."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: Any
    padding_mode: str
    output_padding: tuple[int, ...]
    transposed: bool


class Taps(NamedTuple):
    """The live reads of a convolution: output position `out` reads input position `into` through kernel tap `tap`."""

    out: Ints
    into: Ints
    tap: Ints


@dataclass(frozen=True)
class ConvGeometry:
    """The sizes of one convolution at one input size, in 1, 2 or 3 dimensions; everything is a count of pixels or channels.

    `padding` is kept as (before, after) per axis; "same" and "valid" are resolved here. `transposed` describes
    ConvTranspose, where output o hears input i through tap k when o = i * stride - before + k * dilation. `image_shape` is (C, *input_size).

    Raises ValueError, repeating what was given, for sizes that no convolution can have.
    """

    in_channels: int
    out_channels: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    padding_mode: str = "zeros"
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    output_size: tuple[int, ...] = field(init=False)
    image_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    @classmethod
    def make(
        cls,
        in_channels: int,
        out_channels: int,
        input_size: Sequence[int],
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        transposed: bool = False,
        output_padding: PerAxis = 0,
    ) -> ConvGeometry:
        """The geometry from arguments in the form that torch's convolutions take."""
        if not isinstance(input_size, Iterable):
            raise TypeError(f"input_size must be a sequence of sizes such as (32, 32), got {input_size!r}")
        size = tuple(integer("input_size", s) for s in input_size)
        axes = len(size)
        if not 1 <= axes <= 3:
            raise ValueError(f"input_size must have 1, 2 or 3 spatial axes, got {size}")
        kernel = _per_axis("kernel_size", kernel_size, axes, 1)
        step = _per_axis("stride", stride, axes, 1)
        spread = _per_axis("dilation", dilation, axes, 1)
        return cls(
            in_channels=integer("in_channels", in_channels, 1),
            out_channels=integer("out_channels", out_channels, 1),
            input_size=size,
            kernel_size=kernel,
            stride=step,
            padding=_padding(padding, kernel, step, spread),
            dilation=spread,
            groups=integer("groups", groups, 1),
            padding_mode=padding_mode,
            transposed=transposed,
            output_padding=_per_axis("output_padding", output_padding, axes, 0),
        )

    @classmethod
    def of(cls, conv: ConvLike, input_size: Sequence[int]) -> ConvGeometry:
        """The geometry of a torch convolution module at `input_size` (spatial sizes only)."""
        if len(conv.kernel_size) != len(input_size):
            raise ValueError(
                f"input_size must have {len(conv.kernel_size)} spatial axes for kernel_size {tuple(conv.kernel_size)}, got {tuple(input_size)}"
            )
        return cls.make(
            conv.in_channels,
            conv.out_channels,
            input_size,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.padding_mode,
            conv.transposed,
            conv.output_padding,
        )

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            integer(name, getattr(self, name), 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"groups must divide both channel counts, got groups={self.groups} for {self.in_channels} -> {self.out_channels}")
        if any(s < 1 for s in self.input_size):
            raise ValueError(f"input_size must be positive on every axis, got {self.input_size}")
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got {self.padding_mode!r}")
        if self.transposed and self.padding_mode != "zeros":
            raise ValueError(f"a transposed convolution takes padding_mode 'zeros' only, got {self.padding_mode!r}")
        if not self.output_padding:
            object.__setattr__(self, "output_padding", (0,) * len(self.input_size))
        if any(self.output_padding) and not self.transposed:
            raise ValueError(f"output_padding is for transposed convolutions only, got {self.output_padding}")
        if any(extra and extra >= max(step, spread) for extra, step, spread in zip(self.output_padding, self.stride, self.dilation)):
            raise ValueError(f"output_padding must be below stride {self.stride} or dilation {self.dilation}, got {self.output_padding}")
        self._check_padding_reach()
        object.__setattr__(self, "output_size", tuple(self._output_length(a) for a in range(len(self.input_size))))
        object.__setattr__(self, "image_shape", (self.in_channels, *self.input_size))

    def _check_padding_reach(self) -> None:
        """torch's own limits: reflect needs padding < size, circular needs padding <= size."""
        slack = {"reflect": 1, "circular": 0}.get(self.padding_mode)
        for size, pads in zip(self.input_size, self.padding):
            if slack is not None and max(pads) > size - slack:
                raise ValueError(
                    f"padding_mode {self.padding_mode!r} needs padding of at most {size - slack} on an axis of {size} pixels, got {pads}"
                )

    def _output_length(self, axis: int) -> int:
        size, kernel, step = self.input_size[axis], self.kernel_size[axis], self.stride[axis]
        reach, pads = self.dilation[axis] * (kernel - 1) + 1, sum(self.padding[axis])
        if self.transposed:
            length = (size - 1) * step - pads + reach + self.output_padding[axis]
        else:
            length = (size + pads - reach) // step + 1
        if length < 1:
            raise ValueError(
                f"no output is left on axis {axis}: input_size {self.input_size}, kernel_size {self.kernel_size}, stride {self.stride}, "
                f"padding {self.padding}, dilation {self.dilation}"
            )
        return length

    @property
    def block(self) -> tuple[int, int]:
        """(Co, Ci): the shape of one block, channels of one group."""
        return self.out_channels // self.groups, self.in_channels // self.groups

    @property
    def out_sites(self) -> int:
        """P: output positions x groups."""
        return prod(self.output_size) * self.groups

    @property
    def in_sites(self) -> int:
        """Q: input positions x groups."""
        return prod(self.input_size) * self.groups

    @property
    def padded_features(self) -> int:
        """Input features of the dense matrix over the zero-padded image, which holds dead weights; without zero padding those of the image."""
        # a transposed convolution crops by its padding, the other modes fill it with pixels
        dead = self.padding_mode == "zeros" and not self.transposed
        pads = self.padding if dead else ((0, 0),) * len(self.input_size)
        return self.in_channels * prod(size + before + after for size, (before, after) in zip(self.input_size, pads))

    @property
    def num_taps(self) -> int:
        """Kernel taps of one channel pair."""
        return prod(self.kernel_size)

    def taps(self) -> Taps:
        """Every live read, in O(live reads) plus the dead ones of the border; reads of zero padding do not appear."""
        into, live = self._window(0)
        out, tap = np.nonzero(live)
        return Taps(out.astype(np.int32), into[live].astype(np.int32), tap.astype(np.int32))

    def window(self, halo: int = 0) -> tuple[Ints, Ints]:
        """(out, into): the pairs of positions within Chebyshev distance `halo` pixels of a tap; pairs may repeat.

        Positions past the border are treated as the padding mode treats taps.
        """
        into, live = self._window(integer("halo", halo))
        out, _ = np.nonzero(live)
        return out.astype(np.int32), into[live].astype(np.int32)

    def _window(self, halo: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """into (positions out, reads) and which of them are live; the last axis varies fastest in both."""
        into = np.zeros((1, 1), dtype=np.int64)
        live = np.ones((1, 1), dtype=bool)
        for axis, size in enumerate(self.input_size):
            along, alive = self._axis(axis, halo)
            shape = (into.shape[0] * along.shape[0], into.shape[1] * along.shape[1])
            into = (into[:, None, :, None] * size + along[None, :, None, :]).reshape(shape)
            live = (live[:, None, :, None] & alive[None, :, None, :]).reshape(shape)
        return into, live

    def _axis(self, axis: int, halo: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """One axis: the input pixel that each output reads through each tap (or halo offset), and whether it is live."""
        size, step = self.input_size[axis], self.stride[axis]
        out = np.arange(self.output_size[axis], dtype=np.int64)[:, None]
        tap = np.arange(self.kernel_size[axis], dtype=np.int64)[None, :] * self.dilation[axis]
        before, after = self.padding[axis]
        # farther than this every pixel is within reach
        far = min(halo, size + before + after + self.dilation[axis] * self.kernel_size[axis])
        around = np.arange(-far, far + 1, dtype=np.int64)
        if self.transposed:
            strided = out + before - tap
            live = np.repeat(strided % step == 0, around.size, axis=1)
            into = (strided[:, :, None] // step + around).reshape(out.size, -1)
        else:
            into = out * step - before + np.unique(tap[0][:, None] + around)[None, :]
            live = np.ones(into.shape, dtype=bool)
        if self.padding_mode == "circular":
            into %= size
        elif self.padding_mode == "replicate":
            into = into.clip(0, size - 1)
        elif self.padding_mode == "reflect":
            period = max(2 * (size - 1), 1)
            into = size - 1 - np.abs(into % period - (size - 1))
        live &= (into >= 0) & (into < size)
        return into, live


def _per_axis(name: str, value: Any, axes: int, least: int) -> tuple[int, ...]:
    values = (value,) * axes if not isinstance(value, Sequence) else tuple(value)
    if len(values) == 1:
        values *= axes
    if len(values) != axes:
        raise ValueError(f"{name} must be one integer or {axes} of them, got {value!r}")
    return tuple(integer(name, v, least) for v in values)


def _padding(padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        padding = 0
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f"padding='same' needs stride 1, got stride {stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'same', 'valid', integers or (before, after) pairs, got {padding!r}")
    sides = (padding,) * len(kernel) if not isinstance(padding, Sequence) else tuple(padding)
    if len(sides) == 1:
        sides *= len(kernel)
    if len(sides) != len(kernel):
        raise ValueError(f"padding must be one value or {len(kernel)} of them, got {padding!r}")
    pairs = [_per_axis("padding", side, 2, 0) for side in sides]
    return tuple((before, after) for before, after in pairs)
