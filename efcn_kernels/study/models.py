"""The CNNs of the study as plain `nn.Sequential`s with named layers, for images of 28x28 pixels and more."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

# the strings name the layers in the state dict: conv1, pool1, relu1, ..., flatten, fc
_Layers = list[tuple[str, nn.Module]]


def skinny_cnn(channels: int, size: int | tuple[int, int], classes: int) -> nn.Sequential:
    """The Skinny CNN of d'Ascoli et al. 2019: three convolutions of 64 channels, each with ReLU and max-pooling, then one linear layer.

    Takes (N, channels, *size) images and returns (N, classes) logits. Raises ValueError if the images are too small for its poolings.
    """
    layers: _Layers = [
        *_stage(1, nn.Conv2d(channels, 64, 4, stride=2, padding=2), pool=True),
        *_stage(2, nn.Conv2d(64, 64, 5, padding=2), pool=True),
        *_stage(3, nn.Conv2d(64, 64, 3, padding=1), pool=True),
    ]
    features = _features(layers, channels, size)
    return _named([*layers, ("flatten", nn.Flatten()), ("fc", nn.Linear(features, classes))])


def alexnet(channels: int, size: int | tuple[int, int], classes: int) -> nn.Sequential:
    """The AlexNet of d'Ascoli et al. 2019: five convolutions, then three linear layers with dropout.

    Takes (N, channels, *size) images and returns (N, classes) logits. Raises ValueError if the images are too small for its poolings.
    """
    layers: _Layers = [
        *_stage(1, nn.Conv2d(channels, 64, 4, stride=2, padding=2), pool=True),
        *_stage(2, nn.Conv2d(64, 192, 5, padding=2), pool=True),
        *_stage(3, nn.Conv2d(192, 384, 3, padding=1)),
        *_stage(4, nn.Conv2d(384, 256, 3, padding=1)),
        *_stage(5, nn.Conv2d(256, 256, 3, padding=1), pool=True),
    ]
    features = _features(layers, channels, size)
    head: _Layers = [
        ("flatten", nn.Flatten()),
        ("drop1", nn.Dropout()),
        ("fc1", nn.Linear(features, 512)),
        ("relu6", nn.ReLU()),
        ("drop2", nn.Dropout()),
        ("fc2", nn.Linear(512, 512)),
        ("relu7", nn.ReLU()),
        ("fc3", nn.Linear(512, classes)),
    ]
    return _named([*layers, *head])


def small_cnn(channels: int, size: int | tuple[int, int], classes: int) -> nn.Sequential:
    """A CNN whose full eFCN trains in seconds an epoch on two cores: three convolutions of 12, 24 and 32 channels.

    Two strides and one pooling keep the number of sites, and with it the P x Q blocks of the full eFCN, small. Takes (N, channels, *size)
    images and returns (N, classes) logits. Raises ValueError if the images are too small.
    """
    layers: _Layers = [
        *_stage(1, nn.Conv2d(channels, 12, 5, stride=2, padding=2)),
        *_stage(2, nn.Conv2d(12, 24, 3, stride=2, padding=1)),
        *_stage(3, nn.Conv2d(24, 32, 3, padding=1), pool=True),
    ]
    features = _features(layers, channels, size)
    return _named([*layers, ("flatten", nn.Flatten()), ("fc", nn.Linear(features, classes))])


def _stage(number: int, conv: nn.Conv2d, *, pool: bool = False) -> _Layers:
    pools: _Layers = [(f"pool{number}", nn.MaxPool2d(3, stride=2))] if pool else []
    # the paper has the ReLU first: the same function and the same gradients, but four times the pixels
    return [(f"conv{number}", conv), *pools, (f"relu{number}", nn.ReLU())]


def _features(layers: _Layers, channels: int, size: int | tuple[int, int]) -> int:
    """Features left after `layers`: channels times sites of the last one."""
    extents = (size, size) if isinstance(size, int) else size
    sites = 1
    for extent in extents:
        left = extent
        for _, layer in layers:
            if isinstance(layer, nn.Conv2d):
                left = (left + 2 * int(layer.padding[0]) - layer.kernel_size[0]) // layer.stride[0] + 1
                channels = layer.out_channels
            elif isinstance(layer, nn.MaxPool2d):
                left = (left - 3) // 2 + 1
            if left < 1:
                raise ValueError(f"images of {extents[0]}x{extents[1]} pixels are too small for this network: expected 28x28 or more")
        sites *= left
    return channels * sites


def _named(layers: _Layers) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
