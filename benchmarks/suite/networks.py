"""Whole training steps of whole networks: Skinny and AlexNet beside their CNNs, and VGG-11 on images of 224x224 with no weight shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn

from benchmarks.network import CLASSES, CLOSE, CLOSE_IN_HALF, NETWORKS, Training, check_losses, time_network
from benchmarks.suite.layers import TARGETED, VGG11
from benchmarks.suite.layers import vgg11 as vgg11_layers
from benchmarks.suite.model import Ceilings, predict_training
from efcn_kernels import LocallyConnected2d
from efcn_kernels.bench.cases import Case, select
from efcn_kernels.bench.device import PRECISIONS, best_backend, clock, tf32
from efcn_kernels.bench.result import Timing
from efcn_kernels.bench.timing import interleave
from efcn_kernels.nn import MaxPool2d
from efcn_kernels.ops import dispatch

# as in the paper, and large enough to fill a GPU
BATCHES = (250, 1024)
LARGE = 32


def items(device: torch.device, ceilings: Ceilings, *, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """The networks, the targets' precisions first; `quick`: a few images, and VGG-11 at 32x32."""
    rounds, limit_s, size = (3, 1.0, 32) if quick else (15, 4.0, 224)
    found: dict[str, Callable[[], dict[str, Any]]] = {}

    def add(name: str, layers: Sequence[Case], batch: int, precision: str, measure: Callable[[], dict[str, Any]]) -> None:
        def measured() -> dict[str, Any]:
            expected = {key: 1e3 * seconds for key, seconds in predict_training(layers, batch, precision, ceilings).items()}
            with dispatch.forced_backend(best_backend(device, PRECISIONS[precision].dtype)):
                return {**measure(), "batch": batch, "precision": precision, "predicted_ms": expected}

        found[f"{name}, N {batch}, {precision}"] = measured

    def add_vgg11(precision: str) -> None:
        add(f"vgg11 at {size}", vgg11_layers(size), LARGE, precision, lambda: vgg11_step(device, precision, size, rounds))

    add_vgg11(TARGETED[0])
    for batch, precision, name in product((8,) if quick else BATCHES, (*TARGETED, "float32"), NETWORKS):
        add(name, select([name]), batch, precision, partial(time_network, name, batch, rounds, limit_s, precision, device))
    # 60 GB of weights and gradients: where they do not fit, everything else was measured before
    if not quick:
        add_vgg11(TARGETED[1])
    return found


def vgg11_step(device: torch.device, precision: str, size: int, rounds: int, batch: int = LARGE) -> dict[str, Any]:
    """A training step of VGG-11's eLCN, its peak memory, and the number of its weights, after a look at its loss beside the CNN's."""
    dtype, rounded = PRECISIONS[precision]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(batch, 3, size, size, device=device, dtype=dtype)
        labels = torch.randint(CLASSES, (batch,), device=device)
        cnn = vgg11(size).to(device, dtype)
        with tf32(False):
            wanted = _training(cnn, x, labels).loss()
            step = _training(elcn(cnn, size), x, labels)
            check_losses("vgg11", {"elcn": step}, wanted, CLOSE if dtype == torch.float32 else CLOSE_IN_HALF)
        with tf32(rounded):
            (times,) = interleave({"elcn": step}, rounds, 10.0, clock=clock(device, flush=False)).values()
            peak = step.peak_bytes()
    weights = sum(p.numel() for p in step.network.parameters())
    return {"name": "vgg11", "size": size, "weights": weights, "peak_bytes": peak, "step": Timing(times).as_dict()}


def vgg11(size: int) -> nn.Sequential:
    """VGG-11's convolutions and poolings, then one linear layer: what is without sharing here is the convolutions."""
    layers: list[nn.Module] = []
    channels = 3
    for out, pooled in VGG11:
        conv = nn.Conv2d(channels, out, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.ReLU(inplace=True), *([nn.MaxPool2d(2)] if pooled else [])]
        channels = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (size // 32) ** 2, CLASSES))


def elcn(cnn: nn.Sequential, size: int) -> nn.Sequential:
    """The network without sharing, layer by layer: cnn_to_efcn would hold several copies of it while it tries whether the mapping is exact."""
    layers: list[nn.Module] = []
    for module in cnn:
        if isinstance(module, nn.Conv2d):
            module = LocallyConnected2d.from_conv(module, size)
            module.batch_last = True
        elif isinstance(module, nn.MaxPool2d):
            module, size = MaxPool2d(2), size // 2
        layers.append(module)
    return nn.Sequential(*layers)


def _training(network: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> Training:
    return Training(network, torch.optim.SGD(network.parameters(), lr=0.0), x, labels)
