"""The CNNs of the study have the published shapes."""

import pytest
import torch

from efcn_kernels.study.models import alexnet, skinny_cnn, small_cnn


@pytest.mark.parametrize("build", [skinny_cnn, alexnet, small_cnn])
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, (28, 41))])
def test_logits(build: object, channels: int, size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    assert callable(build)
    assert build(channels, size, 7)(torch.zeros(2, channels, height, width)).shape == (2, 7)


def test_published_weight_counts() -> None:
    # 142 k and 2.45 M convolution weights at 3x32x32
    for network, expected in ((skinny_cnn(3, 32, 10), 142e3), (alexnet(3, 32, 10), 2.45e6)):
        convolutions = sum(p.numel() for name, p in network.named_parameters() if name.startswith("conv") and name.endswith("weight"))
        assert abs(convolutions / expected - 1) < 0.01
    assert [name for name, _ in skinny_cnn(3, 32, 10).named_children()][:4] == ["conv1", "pool1", "relu1", "conv2"]


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 8x8 pixels are too small"):
        skinny_cnn(1, 8, 10)
