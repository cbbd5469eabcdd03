"""Whether a mapped network is the function that it was mapped from."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from efcn_kernels.analysis.accuracy import batches, evaluate, evaluating
from efcn_kernels.mapping.equivalence import verify_equivalence


def exactness(network: nn.Module, cnn: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> dict[str, Any]:
    """How well `network` and `cnn` agree on images (N, C, H, W): max |CNN(x) - eFCN(x)| over all logits, and both accuracies.

    The errors of the layers are those of `verify_equivalence` on the first batch: maximal difference over maximal value.
    """
    layers = {name: float(error) for name, error in verify_equivalence(cnn, network, images[:batch_size]).items()}
    difference, largest = 0.0, 0.0
    with evaluating(cnn), evaluating(network):
        for batch, _ in batches(images, labels, batch_size):
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
