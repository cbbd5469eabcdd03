"""Processes that train one network together, each on its part of every batch (torch.distributed, started by torchrun)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

# while rank 0 measures and writes the others wait in a collective call
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Team:
    """One of `size` processes; `rank` counts from 0, and rank 0 alone evaluates and writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of a batch along the first axis; parts differ by at most one image."""
        return batch if self.size == 1 else batch.tensor_split(self.size)[self.rank]

    def total(self, *values: float) -> list[float]:
        """The sums of each value over the team, the same in every process."""
        if self.size == 1:
            return list(values)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(sums)
        return sums.tolist()

    def wait(self) -> None:
        """Come back when every process is here."""
        if self.size > 1:
            distributed.barrier()

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The module to train: `model` itself, or around it what averages gradients over the team."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)


ALONE = Team()


@contextmanager
def assembled(device: str) -> Iterator[Team]:
    """The team that torchrun started this process for, or one of its own. `device` "cuda" talks through NCCL, else gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
