"""Deterministic training in plain PyTorch, by the protocol of d'Ascoli et al. 2019.

Cross-entropy, no augmentation and no shuffling: every epoch sees the same batches in the same order, so two networks that start from the same
function see the same data at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from efcn_kernels.analysis.accuracy import Metrics, batches, evaluate, finite
from efcn_kernels.study.train.team import ALONE, Team

# called with the number of images just done
Progress = Callable[[int], None]


@dataclass
class SoFar:
    """What an epoch has done: images seen, sum of their losses, right answers. Enough to go on in the middle of it."""

    images: int = 0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0


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
    so_far: SoFar | None = None,
    team: Team = ALONE,
) -> Metrics:
    """One pass over images (N, C, H, W) and labels (N,) in their given order; returns the running means.

    so_far: what of this epoch is done already; it is brought up to date after each batch, before `progress` is told.
    team: the processes that share each batch; all of them call this with the same images.
    Raises FloatingPointError as soon as the loss is no longer finite: what comes after would be noise.
    """
    model.train()
    done = SoFar() if so_far is None else so_far
    start = time.perf_counter() - done.seconds
    for batch, target in batches(images, labels, batch_size, done.images):
        optimizer.zero_grad(set_to_none=True)
        own = team.part(target)
        logits = model(team.part(batch))
        # DDP takes the mean of the gradients over the team, this makes it the mean over the batch
        loss = functional.cross_entropy(logits, own, reduction="sum") * (team.size / len(target))
        value, correct = team.total(float(loss.detach()) / team.size, float((logits.detach().argmax(1) == own).sum()))
        finite(value, "training")
        loss.backward()
        optimizer.step()
        done.images += len(target)
        done.loss += value * len(target)
        done.correct += int(correct)
        done.seconds = time.perf_counter() - start
        if progress is not None:
            progress(len(target))
    return Metrics(done.loss / len(labels), done.correct / len(labels))


def run_epoch(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    progress: Progress | None = None,
    so_far: SoFar | None = None,
    team: Team = ALONE,
) -> EpochRecord:
    """Train one epoch on `train` = (images, labels), evaluate on `test`, and return both as the record of epoch number `epoch`.

    so_far, team: as in `train_epoch`.
    """
    done = SoFar() if so_far is None else so_far
    trained = train_epoch(model, *train, optimizer=optimizer, batch_size=batch_size, progress=progress, so_far=done, team=team)
    tested = evaluate(model, *test, batch_size)
    return EpochRecord(epoch, trained.loss, trained.accuracy, tested.loss, tested.accuracy, done.seconds)
