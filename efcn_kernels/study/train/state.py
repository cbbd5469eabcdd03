"""All that a training goes on from: weights, optimizer, random numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def pack(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, the rest as JSON). Learning rates and other options are the configuration's and not kept."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    numbers: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers[f"{index}.{key}"] = value
    return tensors, {"optimizer": numbers}


def unpack(tensors: dict[str, Tensor], facts: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put back what `pack` gave, random numbers included. Raises RuntimeError where it is the state of another network."""
    model.load_state_dict(_below("model.", tensors))
    state: dict[int, dict[str, Any]] = {}
    for name, value in (_below("optimizer.", tensors) | facts["optimizer"]).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
