"""Loss, accuracy and margins of a network on a set of images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Metrics:
    """Mean cross-entropy (nats per image) and accuracy (0 .. 1)."""

    loss: float
    accuracy: float


def evaluate(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Metrics:
    """Metrics of `model` in evaluation mode on images (N, C, H, W) and labels (N,); its own mode is restored.

    Raises FloatingPointError if the loss is not finite.
    """
    loss_sum, correct = 0.0, 0
    for logits, target in _outputs(model, images, labels, batch_size):
        loss_sum += float(functional.cross_entropy(logits, target, reduction="sum"))
        correct += int((logits.argmax(1) == target).sum())
    return Metrics(finite(loss_sum / len(labels), "test"), correct / len(labels))


def right(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """(N,) whether the class with the largest logit is the right one; the mean is the accuracy of `evaluate`."""
    return torch.cat([logits.argmax(1) == target for logits, target in _outputs(model, images, labels, batch_size)])


def margins(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """(N,) how sure each answer is: the logit of the right class minus the largest other one; negative where the answer is wrong.

    Divided by the product of the layers' spectral norms (`singular_values`) it is the margin of Bartlett et al. 2017, arXiv 1706.08498.
    """
    found = []
    for logits, target in _outputs(model, images, labels, batch_size):
        right = logits.gather(1, target.unsqueeze(1))
        others = logits.scatter(1, target.unsqueeze(1), -math.inf)
        found.append(right.squeeze(1) - others.amax(1))
    return torch.cat(found)


def finite(loss: float, what: str) -> float:
    """`loss`, or FloatingPointError: what comes after it would be noise."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the {what} loss became {loss}; a smaller learning rate is needed")
    return loss


def batches(images: Tensor, labels: Tensor, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) in their given order from number `start` on, `batch_size` at a time, the last batch maybe shorter."""
    if batch_size < 1 or len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{len(images)} images, {len(labels)} labels, batch size {batch_size}: "
            "expected one label per image, at least one image, and a batch size of 1 or more"
        )
    for first in range(start, len(labels), batch_size):
        yield images[first : first + batch_size], labels[first : first + batch_size]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode before comes back."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _outputs(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits, labels) of each batch."""
    for batch, target in batches(images, labels, batch_size):
        # around each batch, for a generator must not change modes while its caller has it paused
        with evaluating(model):
            logits = model(batch)
        yield logits, target
