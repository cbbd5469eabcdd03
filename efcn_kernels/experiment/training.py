"""Deterministic training in plain PyTorch, by the protocol of d'Ascoli et al. 2019.

Cross-entropy, no augmentation and no shuffling: every epoch sees the same batches in the same order, so two networks that start from the same
function see the same data at the same time.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# called with the number of images just done
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Metrics:
    """Mean cross-entropy (nats per image) and accuracy (0 .. 1)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number, counted from 1 since the CNN's initialisation, its metrics and how long its training took.

    The training metrics are running means over the epoch's batches, the test metrics those at its end; `seconds` is the time of the training
    pass alone.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def train_epoch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    progress: Progress | None = None,
) -> Metrics:
    """One pass over images (N, C, H, W) and labels (N,) in their given order; returns the running means.

    Raises FloatingPointError as soon as the loss is no longer finite: what comes after would be noise.
    """
    model.train()
    loss_sum, correct = 0.0, 0
    for batch, target in _batches(images, labels, batch_size):
        optimizer.zero_grad(set_to_none=True)
        logits = model(batch)
        loss = functional.cross_entropy(logits, target)
        value = _finite(float(loss.detach()), "training")
        loss.backward()
        optimizer.step()
        loss_sum += value * len(target)
        correct += int((logits.detach().argmax(1) == target).sum())
        if progress is not None:
            progress(len(target))
    return Metrics(loss_sum / len(labels), correct / len(labels))


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Metrics:
    """Metrics of `model` in evaluation mode on images (N, C, H, W) and labels (N,); its own mode is restored.

    Raises FloatingPointError if the loss is not finite.
    """
    was_training = model.training
    model.eval()
    loss_sum, correct = 0.0, 0
    for batch, target in _batches(images, labels, batch_size):
        logits = model(batch)
        loss_sum += float(functional.cross_entropy(logits, target, reduction="sum"))
        correct += int((logits.argmax(1) == target).sum())
    model.train(was_training)
    return Metrics(_finite(loss_sum / len(labels), "test"), correct / len(labels))


def run_epoch(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    progress: Progress | None = None,
) -> EpochRecord:
    """Train one epoch on `train` = (images, labels), evaluate on `test`, and return both as the record of epoch number `epoch`."""
    start = time.perf_counter()
    trained = train_epoch(model, *train, optimizer=optimizer, batch_size=batch_size, progress=progress)
    seconds = time.perf_counter() - start
    tested = evaluate(model, *test, batch_size)
    return EpochRecord(epoch, trained.loss, trained.accuracy, tested.loss, tested.accuracy, seconds)


def _finite(loss: float, what: str) -> float:
    if not math.isfinite(loss):
        raise FloatingPointError(f"the {what} loss became {loss}; a smaller learning rate is needed")
    return loss


def _batches(images: Tensor, labels: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    if batch_size < 1 or len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{len(images)} images, {len(labels)} labels, batch size {batch_size}: "
            "expected one label per image, at least one image, and a batch size of 1 or more"
        )
    for start in range(0, len(labels), batch_size):
        yield images[start : start + batch_size], labels[start : start + batch_size]
