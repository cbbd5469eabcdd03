"""Train AlexNet at 224x224 as its eLCN: 0.65 G weights, none of them shared, in 6 GB of memory.

    python examples/alexnet_224.py [--steps 12] [--batch 64] [--data cifar10]

The layers are torchvision's, with 10 classes; its adaptive pooling does nothing at this size, and its dropout is left out, whose noise
would hide what a dozen steps gain. Images are real ones, upscaled: the Fashion-MNIST that the package carries, or CIFAR-10 from the
folder that EFCN_DATA names.

Memory on paper, float32, SGD without momentum:
    weights       0.599 G in five locally connected layers + 0.055 G in the three linear ones = 0.654 G   2.6 GB
    gradients     as many                                                                                 2.6 GB
    activations   0.9 M values an image with what the backward pass keeps: 4 MB, 64 images                0.3 GB
With torch itself (0.3 GB) and what the allocator keeps, the peak is 6.1 GB as measured with the default arguments.
The convolutions of the same network have 2.5 M weights. As dense matrices the first layer alone has 29 G (117 GB), all five 42 G.
"""

import argparse
from collections import OrderedDict
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efcn_kernels import LocallyConnected2d, batch_last
from efcn_kernels.nn import MaxPool2d
from efcn_kernels.study.data.sets import load

# name, channels out, kernel, stride, padding, whether pooling follows
CONVOLUTIONS = (
    ("conv1", 64, 11, 4, 2, True),
    ("conv2", 192, 5, 1, 2, True),
    ("conv3", 384, 3, 1, 1, False),
    ("conv4", 256, 3, 1, 1, False),
    ("conv5", 256, 3, 1, 1, True),
)


def alexnet_elcn(size: int = 224, head: int = 4096, classes: int = 10, device: str = "cpu") -> nn.Sequential:
    """AlexNet's eLCN for (N, 3, size, size) images, its weights those of a CNN with He's initialisation.

    Built layer by layer, each from a convolution that is thrown away: at most one layer's weights exist twice. cnn_to_efcn would hold
    several copies of the whole network while it tries whether the mapping is exact.
    """
    layers: list[tuple[str, nn.Module]] = []
    channels = 3
    for name, out, kernel, stride, padding, pool in CONVOLUTIONS:
        conv = nn.Conv2d(channels, out, kernel, stride, padding, device=device)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layer = LocallyConnected2d.from_conv(conv, size)
        layers += [(name, layer), (name.replace("conv", "relu"), nn.ReLU(inplace=True))]
        channels, size = out, layer.geometry.output_size[0]
        if pool:
            layers.append((name.replace("conv", "pool"), MaxPool2d(3, stride=2)))
            size = (size - 3) // 2 + 1
    layers.append(("flatten", nn.Flatten()))
    for number, width in ((6, head), (7, head)):
        fan_in = channels * size * size if number == 6 else head
        linear = nn.Linear(fan_in, width, device=device)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [(f"fc{number}", linear), (f"relu{number}", nn.ReLU(inplace=True))]
    layers.append(("fc8", nn.Linear(head, classes, device=device)))
    return nn.Sequential(OrderedDict(layers))


def upscaled(images: Tensor, size: int) -> Tensor:
    """(N, 3, size, size), batch-last, from (N, 1 or 3, H, W)."""
    return batch_last(F.interpolate(images.expand(-1, 3, -1, -1), size=(size, size), mode="bilinear"))


def peak_gigabytes() -> float:
    """The most memory that this process has held so far (VmHWM, Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def train(model: nn.Sequential, images: Tensor, labels: Tensor, *, size: int, batch: int, rate: float) -> list[float]:
    """One pass of SGD over the images, the gradient at most 1 long, printing each step; returns the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = []
    for number, (few, wanted) in enumerate(zip(images.split(batch), labels.split(batch)), 1):
        x = upscaled(few, size)
        start = perf_counter()
        # gradients of the last step are freed before new ones are needed
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), wanted)
        loss.backward()
        # without it the first steps overshoot
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        print(f"step {number}: loss {losses[-1]:.3f}, {perf_counter() - start:.2f} s, peak memory {peak_gigabytes():.2f} GB", flush=True)
    return losses


def main(arguments: list[str] | None = None) -> list[float]:
    """Build, count, train; returns the losses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=224, help="pixels; 63 for a quick look")
    parser.add_argument("--head", type=int, default=4096, help="width of the linear layers")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate")
    parser.add_argument("--data", default="fashion-mnist-small", help="or cifar10, fashion-mnist, ...")
    given = parser.parse_args(arguments)

    torch.manual_seed(0)
    data = load(given.data).first(given.steps * given.batch, 0)
    model = alexnet_elcn(given.size, given.head, len(data.classes))
    for name, layer in model.named_children():
        if weights := sum(p.numel() for p in layer.parameters()):
            print(f"{name:6} {weights:13,} weights  {getattr(layer, 'layout', layer)}")
    print(f"in all {sum(p.numel() for p in model.parameters()):13,} weights; peak memory after building {peak_gigabytes():.2f} GB")
    return train(model, data.normalised("train"), data.train_labels, size=given.size, batch=given.batch, rate=given.rate)


if __name__ == "__main__":
    main()
