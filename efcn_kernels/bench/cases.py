"""The layers that are timed, as data; command line, benchmark suites and tests take them from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from efcn_kernels.nn import LocallyConnected2d
from efcn_kernels.pattern.geometry import ConvGeometry


@dataclass(frozen=True)
class Case:
    """A 2d convolution with zero padding at an input size (H, W), without weight sharing.

    support: as LocallyConnected2d takes it. first: a network's first layer, which training steps without grad-input.
    """

    name: str
    in_channels: int
    out_channels: int
    size: tuple[int, int]
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    support: str = "local"
    first: bool = False

    def conv(self, dtype: torch.dtype = torch.float32) -> nn.Conv2d:
        """The convolution, with torch's initial weights."""
        return nn.Conv2d(self.in_channels, self.out_channels, self.kernel, self.stride, self.padding, self.dilation, self.groups, dtype=dtype)

    def layer(self, conv: nn.Conv2d) -> LocallyConnected2d:
        """The layer with the function of `conv` and weights wherever the support has them."""
        return LocallyConnected2d.from_conv(conv, self.size, self.support)

    @property
    def geometry(self) -> ConvGeometry:
        return ConvGeometry.make(self.in_channels, self.out_channels, self.size, self.kernel, self.stride, self.padding, self.dilation, self.groups)

    @property
    def in_features(self) -> int:
        return self.in_channels * self.size[0] * self.size[1]

    @property
    def out_features(self) -> int:
        height, width = self.geometry.output_size
        return self.out_channels * height * width

    def __str__(self) -> str:
        stride = f" s{self.stride}" if self.stride > 1 else ""
        padding = f" p{self.padding}" if self.padding else ""
        dilation = f" d{self.dilation}" if self.dilation > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        support = f" {self.support}" if self.support != "local" else ""
        return f"{self.in_channels}->{self.out_channels} k{self.kernel}{stride}{padding}{dilation}{groups} @{self.size[0]}x{self.size[1]}{support}"


# alexnet and skinny as d'Ascoli et al. 2019 use them, on CIFAR's 32x32 images
CASES = (
    Case("alexnet.conv1", 3, 64, (32, 32), 4, stride=2, padding=2, first=True),
    Case("alexnet.conv2", 64, 192, (8, 8), 5, padding=2),
    Case("alexnet.conv3", 192, 384, (3, 3), 3, padding=1),
    Case("alexnet.conv4", 384, 256, (3, 3), 3, padding=1),
    Case("alexnet.conv5", 256, 256, (3, 3), 3, padding=1),
    Case("skinny.conv2", 64, 64, (8, 8), 5, padding=2),
    Case("skinny.conv3", 64, 64, (3, 3), 3, padding=1),
    Case("wide32", 64, 64, (32, 32), 3, padding=1),
    Case("wide14", 128, 128, (14, 14), 3, padding=1),
    Case("dilated", 32, 48, (16, 16), 3, padding=2, dilation=2),
    Case("odd", 17, 29, (13, 11), 3, padding=1),
    Case("strided", 16, 32, (28, 28), 5, stride=2, padding=2),
    Case("grouped", 64, 64, (14, 14), 3, padding=1, groups=4),
    Case("digits", 1, 32, (28, 28), 5, padding=2, first=True),
    Case("alexnet.conv1.full", 3, 64, (32, 32), 4, stride=2, padding=2, support="full"),
    Case("alexnet.conv2.full", 64, 192, (8, 8), 5, padding=2, support="full"),
)

GROUPS: dict[str, tuple[str, ...]] = {
    "alexnet": ("alexnet.conv1", "alexnet.conv2", "alexnet.conv3", "alexnet.conv4", "alexnet.conv5"),
    "skinny": ("alexnet.conv1", "skinny.conv2", "skinny.conv3"),
    "dense": ("alexnet.conv1.full", "alexnet.conv2.full"),
    # the layers of `targets.TARGETS`
    "table": tuple(case.name for case in CASES if case.name != "skinny.conv3"),
    "all": tuple(case.name for case in CASES),
}


def select(names: Sequence[str]) -> list[Case]:
    """The cases of these names and groups, each once, in the order of `CASES`. Raises ValueError for an unknown name."""
    by_name = {case.name: case for case in CASES}
    wanted: set[str] = set()
    for name in names:
        if name not in GROUPS and name not in by_name:
            raise ValueError(f"no layer is named {name!r}; groups: {', '.join(GROUPS)}; layers: {', '.join(by_name)}")
        wanted.update(GROUPS.get(name, (name,)))
    return [case for case in CASES if case.name in wanted]
