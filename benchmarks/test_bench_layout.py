"""Building layouts: what mapping a network costs before its first step."""

from typing import Any

import pytest

from efcn_kernels import BlockLayout, ConvGeometry

# the first layer of VGG at ImageNet size, the largest pattern of the usual networks: 224 x 224 sites of 9 taps
VGG = ConvGeometry.make(3, 64, (224, 224), 3, padding=1)
ALEXNET2 = ConvGeometry.make(64, 192, (8, 8), 5, padding=2)


def pairs_along(size: int, radius: int) -> int:
    """Pairs of pixels on one axis that are at most `radius` apart."""
    return sum(min(i + radius, size - 1) - max(i - radius, 0) + 1 for i in range(size))


@pytest.mark.parametrize(("geometry", "size", "radius"), [(VGG, 224, 1), (ALEXNET2, 8, 2)], ids=["vgg.conv1@224", "alexnet.conv2"])
@pytest.mark.parametrize("halo", [0, 1])
def test_from_conv(benchmark: Any, geometry: ConvGeometry, size: int, radius: int, halo: int) -> None:
    layout = benchmark(BlockLayout.from_conv, geometry, halo)
    assert layout.nnzb == pairs_along(size, radius + halo) ** 2
    assert layout.local.sum() == pairs_along(size, radius) ** 2


def test_full(benchmark: Any) -> None:
    layout = benchmark(BlockLayout.from_support, ALEXNET2, "full")
    assert layout.nnzb == 64 * 64
