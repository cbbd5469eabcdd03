"""The layers that the suite times, as data, and in which order: what tells most comes first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from efcn_kernels.bench.cases import Case, select
from efcn_kernels.bench.device import PRECISIONS

BATCHES = (32, 64, 128, 256, 512, 1024)
# at which targets are held
BATCH = 256
# matrix units are meant to carry these two
TARGETED = ("bfloat16", "tf32")
# channels from which on a target is held
WIDE = 32
# VGG-11: channels out, and whether pooling follows
VGG11 = ((64, True), (128, True), (256, False), (256, True), (512, False), (512, True), (512, False), (512, True))
# beside torch.compile, which needs seconds to compile each
COMPILED = ("alexnet.conv2", "alexnet.conv4", "resnet32.conv3", "resnet224.conv4")


class Item(NamedTuple):
    """One layer at one batch in one precision."""

    case: Case
    batch: int
    precision: str

    def __str__(self) -> str:
        return f"{self.case.name}, N {self.batch}, {self.precision}"

    @property
    def against(self) -> tuple[str, ...]:
        """Names of competitors: all that train the same weights, and the convolution."""
        compiled = self.case.name in COMPILED and self.batch == BATCH and self.precision in TARGETED
        return ("conv", "linear", "unfold", *(("unfold-compiled",) if compiled else ()))


def vgg11(size: int) -> list[Case]:
    """The convolutions of VGG-11 (Simonyan and Zisserman 2015) on images of size x size, those of one shape once each."""
    cases, channels, extent = [], 3, size
    for number, (out, pooled) in enumerate(VGG11, 1):
        cases.append(Case(f"vgg{size}.conv{number}", channels, out, (extent, extent), 3, padding=1, first=number == 1))
        channels, extent = out, extent // 2 if pooled else extent
    return cases


def resnet18(size: int) -> list[Case]:
    """The convolutions of ResNet-18 (He et al. 2016) on images of size x size; below 64 pixels with the stem that He et al. use on CIFAR."""
    small = size < 64
    stem = Case(f"resnet{size}.conv1", 3, 64, (size, size), 3 if small else 7, 1 if small else 2, 1 if small else 3, first=True)
    extent = size if small else size // 4
    cases = [stem, Case(f"resnet{size}.conv2", 64, 64, (extent, extent), 3, padding=1)]
    for stage, channels in ((3, 64), (4, 128), (5, 256)):
        before, extent = (extent, extent), extent // 2
        cases.append(Case(f"resnet{size}.conv{stage}down", channels, 2 * channels, before, 3, stride=2, padding=1))
        cases.append(Case(f"resnet{size}.conv{stage}short", channels, 2 * channels, before, 1, stride=2))
        cases.append(Case(f"resnet{size}.conv{stage}", 2 * channels, 2 * channels, (extent, extent), 3, padding=1))
    return cases


def _each_shape_once(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple({str(case): case for case in reversed(cases)}.values())[::-1]


LAYERS = _each_shape_once([*select(["alexnet", "skinny"]), *resnet18(224), *resnet18(32), *vgg11(32), *vgg11(224)])


def items(layers: Sequence[Case] = LAYERS) -> list[Item]:
    """Every layer, batch and precision: first all layers at the targets' batch, then the smallest and the largest, then the rest."""
    first = [(BATCH, precision) for precision in TARGETED]
    first += [(batch, TARGETED[0]) for batch in (min(BATCHES), max(BATCHES))]
    first += [(BATCH, precision) for precision in PRECISIONS]
    order = dict.fromkeys([*first, *product(BATCHES, PRECISIONS)])
    compiled_first = sorted(layers, key=lambda case: case.name not in COMPILED)
    return [Item(case, batch, precision) for batch, precision in order for case in compiled_first]
