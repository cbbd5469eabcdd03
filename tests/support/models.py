"""Networks of every habit: residual, depthwise, branching, upsampling, recurrent, nested; torchvision's shapes where it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.downsample = None
        if stride != 1 or ins != outs:
            self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        y: Tensor = self.relu(out)
        return y


class ResNet18(nn.Module):
    """torchvision's resnet18: the same modules under the same names; `width` 64 is the real one."""

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = []
        for stage in range(4):
            stride = 1 if stage == 0 else 2
            stages.append(nn.Sequential(BasicBlock(widths[stage], widths[stage + 1], stride), BasicBlock(widths[stage + 1], widths[stage + 1], 1)))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        y: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return y


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        hidden = channels * 3
        self.residual = stride == 1
        self.conv = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class Inception(nn.Module):
    """GoogLeNet's habit: parallel branches, and an auxiliary head that only training runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branch1 = nn.Conv2d(6, 2, 1)
        self.branch2 = nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
        self.branch3 = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 2, 1))
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Conv2d(7, 4, 1), nn.Flatten(), nn.Linear(36, 5))
        self.fc = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        x = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x)], 1)
        out = self.fc(x.mean((2, 3)))
        return (out, self.aux(x)) if self.training else out


class DenseBlock(nn.Module):
    """DenseNet's habit: every layer reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(3 + 4 * i), nn.ReLU(), nn.Conv2d(3 + 4 * i, 4, 3, padding=1)) for i in range(3))
        self.fc = nn.Linear(15, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        y: Tensor = self.fc(F.adaptive_avg_pool2d(torch.cat(features, 1), 1).flatten(1))
        return y


class UNet(nn.Module):
    """Down, up by a transposed convolution, and a bridge across."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        high = F.relu(self.down1(x))
        low = F.relu(self.down2(F.max_pool2d(high, 2)))
        y: Tensor = self.out(torch.cat([self.up(low), high], 1))
        return y


class ConvRecurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 5, stride=2, padding=2)
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.conv(x)).transpose(1, 2)
        states, _ = self.lstm(features)
        y: Tensor = self.fc(states[:, -1])
        return y


class Nested(nn.Module):
    """Modules in lists and dicts in each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({"first": nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)]), "second": nn.Sequential(nn.Conv2d(4, 5, 3))})
        self.head = nn.ModuleDict({"fc": nn.Linear(5, 2)})

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.stages["first"]:  # type: ignore[attr-defined]
            x = torch.tanh(conv(x))
        y: Tensor = self.head["fc"](self.stages["second"](x).amax((2, 3)))
        return y


class Viewing(nn.Module):
    """User code that needs contiguous feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, 2)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv(x))))
        y: Tensor = self.fc(self.dropout(x.view(x.size(0), -1)))
        return y


class Shared(nn.Module):
    """One convolution called twice at one size, and under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.again = self.conv
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(torch.relu(self.conv(x)))
        y: Tensor = self.fc(x.mean((2, 3)))
        return y


class InAndOut(nn.Module):
    """Two inputs, a dict of outputs with a list in it."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.signal = nn.Conv2d(3, 4, 3), nn.Conv1d(2, 4, 3)

    def forward(self, image: Tensor, signal: Tensor) -> dict[str, Any]:
        a, b = self.image(image), self.signal(signal)
        return {"both": [a.mean((2, 3)), b.mean(2)], "sum": a.mean((2, 3)) + b.mean(2), "sizes": a.shape[2:]}


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 4, 2), nn.Flatten(), nn.Linear(4, 3)
    )


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2),
        nn.GroupNorm(2, 8),
        nn.GELU(),
        nn.Dropout2d(0.2),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )


def upsampling() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(6, 1, 3, padding="same", padding_mode="reflect"),
    )


def _image(n: int = 2, size: int = 8, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, size, size)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "resnet18": (lambda: ResNet18(width=8, classes=10), lambda: _image(3, 32)),
    "mobilenet": (lambda: nn.Sequential(InvertedResidual(4, 1), InvertedResidual(4, 2)), lambda: _image(2, 8, 4)),
    "googlenet": (Inception, _image),
    "densenet": (DenseBlock, _image),
    "unet": (UNet, _image),
    "conv1d and lstm": (ConvRecurrent, lambda: torch.randn(2, 3, 21)),
    "conv3d": (volumes, lambda: torch.randn(2, 2, 4, 4, 4)),
    "nested": (Nested, _image),
    "view": (Viewing, _image),
    "pooled": (pooled, lambda: _image(2, 11)),
    "upsampling": (upsampling, lambda: _image(2, 4, 4)),
    "shared": (Shared, _image),
    "dict and tuple": (InAndOut, lambda: (_image(), torch.randn(2, 2, 9))),
}
