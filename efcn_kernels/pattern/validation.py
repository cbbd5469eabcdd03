"""Checks of arguments that several modules share; every error repeats what was given."""

from __future__ import annotations

import difflib
import inspect
import operator
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MAX_BLOCKS = 2**31 - 1
# three int32 arrays, a flag, and the copies and int64 keys of their making
_BYTES_PER_BLOCK = 40


def known_keywords(kind: type, unknown: dict[str, Any]) -> None:
    """TypeError for keywords that `kind` does not take, with the one that was probably meant."""
    if not unknown:
        return
    taken = [name for name, parameter in inspect.signature(kind).parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    for name, value in unknown.items():
        near = difflib.get_close_matches(name, taken, n=1)
        raise TypeError(f"{kind.__name__} takes no {name}={value!r}" + (f", did you mean {near[0]}?" if near else f"; it takes {', '.join(taken)}"))


def integer(name: str, value: Any, least: int = 0) -> int:
    """`value` as an int of at least `least`; TypeError or ValueError otherwise."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def index_array(name: str, values: npt.ArrayLike | Tensor) -> npt.NDArray[np.int32]:
    """A one-dimensional int32 copy of `values`; ValueError for any other content."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{name} must be a one-dimensional integer array, got {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < -(2**31) or array.max() >= 2**31):
        raise ValueError(f"{name} must fit into int32, got values from {array.min()} to {array.max()}")
    return np.array(array, dtype=np.int32, order="C")


def entry_mask(mask: npt.ArrayLike | Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """A bool tensor of `shape` (nnzb, Co, Ci), or None where every entry is true."""
    if mask is None:
        return None
    entries = np.ascontiguousarray(mask, dtype=bool)
    if entries.shape != shape:
        raise ValueError(f"mask must have the shape (nnzb, Co, Ci) = {shape}, got {entries.shape}")
    return None if entries.all() else torch.from_numpy(entries.copy())


def block_count(blocks: int) -> None:
    """ValueError where an int32 cannot count the blocks, or the memory of this machine cannot hold their indices."""
    if blocks > MAX_BLOCKS:
        raise ValueError(f"this support would hold {blocks:,} blocks; a layout holds at most {MAX_BLOCKS:,}: use a halo radius instead")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if blocks * _BYTES_PER_BLOCK > memory:
        raise ValueError(
            f"the indices of {blocks:,} blocks need about {blocks * _BYTES_PER_BLOCK / 2**30:.0f} GiB while they are built, "
            f"this machine has {memory / 2**30:.0f} GiB: use a halo radius instead"
        )
