"""The networks that a demonstration compares: how each is made from a snapshot of the CNN, what it holds, how exact it is."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from efcn_kernels import LocallyConnected2d, cnn_to_efcn, verify_equivalence

from .training import evaluate

Support = int | Literal["local", "full"] | None


@dataclass(frozen=True)
class Arm:
    """One way to go on from a snapshot: its name in tables and figures, and the support of its mapping (None: the CNN itself)."""

    name: str
    support: Support


CNN = Arm("CNN", None)
ELCN = Arm("eLCN", "local")
HALO = Arm("halo-1", 1)
EFCN = Arm("eFCN", "full")
ARMS = (CNN, ELCN, HALO, EFCN)


def build(arm: Arm, cnn: nn.Module, example: Tensor) -> nn.Module:
    """The network of `arm` with the function of `cnn`; `cnn` stays untouched. `example` is an input batch (N, C, H, W)."""
    if arm.support is None:
        return cnn
    network: nn.Module = cnn_to_efcn(cnn, example, support=arm.support)
    return network


def sizes(network: nn.Module, cnn: nn.Module, example: Tensor) -> dict[str, int]:
    """Weights (biases included) and bytes of `network`, and of the network that has a dense nn.Linear for each convolution of `cnn`."""
    dense = sum(p.numel() for p in cnn.parameters())
    for conv, features_in, features_out in _convolutions(cnn, example):
        dense += features_in * features_out + features_out - sum(p.numel() for p in conv.parameters())
    parameters = list(network.parameters())
    width = parameters[0].element_size()
    weights = sum(p.numel() for p in parameters)
    return {"weights": weights, "weight_bytes": weights * width, "dense_weights": dense, "dense_bytes": dense * width}


def exactness(network: nn.Module, cnn: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> dict[str, Any]:
    """How well `network` and `cnn` agree on images (N, C, H, W) before the first step.

    The errors of the layers are those of `verify_equivalence` on the first batch: maximal difference over maximal value. The logits are compared
    on all images.
    """
    layers = {name: float(error) for name, error in verify_equivalence(cnn, network, images[:batch_size]).items()}
    difference, largest = 0.0, 0.0
    cnn.eval()
    network.eval()
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            expected = cnn(batch)
            difference = max(difference, float((network(batch) - expected).abs().max()))
            largest = max(largest, float(expected.abs().max()))
    return {
        "images": len(images),
        "layers": layers,
        "logits_max_abs": difference,
        "logits_max_rel": difference / largest,
        "accuracy_cnn": evaluate(cnn, images, labels, batch_size).accuracy,
        "accuracy_efcn": evaluate(network, images, labels, batch_size).accuracy,
    }


def off_local_share(network: nn.Module) -> float:
    """Norm of the off-local weights over the norm of all weights of the replaced layers (Delta of d'Ascoli et al. 2019, live weights)."""
    local, off_local = 0.0, 0.0
    for layer in network.modules():
        if isinstance(layer, LocallyConnected2d):
            local += float(layer.values.detach().double().square().sum())
            if layer.off_values is not None:
                off_local += float(layer.off_values.detach().double().square().sum())
    return (off_local / (local + off_local)) ** 0.5 if local + off_local else 0.0


def _convolutions(cnn: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, int, int]]:
    """Every convolution of `cnn` with its numbers of input and output features on `example`."""
    seen: list[tuple[nn.Conv2d, int, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen.append((module, inputs[0][0].numel(), output[0].numel()))

    hooks = [module.register_forward_hook(note) for module in cnn.modules() if isinstance(module, nn.Conv2d)]
    try:
        with torch.no_grad():
            cnn(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return seen
