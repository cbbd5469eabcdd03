"""Index work on block patterns: compiled (csrc/csr) where it was built, vectorised NumPy otherwise, same results."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from efcn_kernels.pattern.validation import block_count

compiled: Any
why_not_compiled: str | None
try:
    compiled, why_not_compiled = import_module("efcn_kernels._csr"), None
except ImportError as error:
    compiled, why_not_compiled = None, f"the compiled index work is missing ({error}); NumPy does its work"

Ints = npt.NDArray[np.int32]


def compress(out_sites: int, in_sites: int, row: Ints, col: Ints) -> tuple[Ints, Ints, Ints]:
    """Merge (row, col) pairs, in any order and with repeats, into CSR.

    Returns crow (P+1,), col (nnzb,) ascending within each row, and block (T,): the block number of each given pair.
    Raises ValueError for an index out of range or more blocks than an int32 can count.
    """
    row, col = np.ascontiguousarray(row, np.int32), np.ascontiguousarray(col, np.int32)
    if compiled is not None:
        crow, cols, block = compiled.compress(out_sites, in_sites, row, col)
        return crow, cols, block
    for name, index, sites in (("row", row, out_sites), ("col", col, in_sites)):
        if index.size and (index.min() < 0 or index.max() >= sites):
            bad = int(index[(index < 0) | (index >= sites)][0])
            raise ValueError(f"{name} index {bad} is out of range for {sites} sites")
    keys, block = np.unique(row.astype(np.int64) * in_sites + col, return_inverse=True)
    counts = np.bincount(keys // max(in_sites, 1), minlength=out_sites)
    return _pointers(counts), (keys % max(in_sites, 1)).astype(np.int32), block.reshape(-1).astype(np.int32)


def dense(out_sites: int, in_sites: int) -> tuple[Ints, Ints]:
    """crow and col of the pattern that holds every block."""
    crow = (np.arange(out_sites + 1, dtype=np.int64) * in_sites).astype(np.int32)
    return crow, np.tile(np.arange(in_sites, dtype=np.int32), out_sites)


def transpose(in_sites: int, crow: Ints, col: Ints) -> tuple[Ints, Ints, Ints]:
    """The same pattern seen from the input: tcrow (Q+1,), tcol (nnzb,) output sites, tblock (nnzb,) block numbers."""
    crow, col = np.ascontiguousarray(crow, np.int32), np.ascontiguousarray(col, np.int32)
    if compiled is not None:
        tcrow, tcol, tblock = compiled.transpose(in_sites, crow, col)
        return tcrow, tcol, tblock
    check(in_sites, crow, col)
    order = np.argsort(col, kind="stable").astype(np.int32)
    row = np.repeat(np.arange(crow.size - 1, dtype=np.int32), np.diff(crow))
    return _pointers(np.bincount(col, minlength=in_sites)), row[order], order


def check(in_sites: int, crow: Ints, col: Ints) -> None:
    """Raise ValueError unless crow and col are a valid CSR pattern: monotone, in range, columns ascending in each row."""
    crow, col = np.ascontiguousarray(crow, np.int32), np.ascontiguousarray(col, np.int32)
    if compiled is not None:
        compiled.check(in_sites, crow, col)
        return
    if crow.ndim != 1 or crow.size < 1 or crow[0] != 0 or crow[-1] != col.size or (np.diff(crow) < 0).any():
        raise ValueError(f"crow must rise from 0 to the number of blocks {col.size}, got {crow}")
    if col.size and (col.min() < 0 or col.max() >= in_sites):
        bad = int(col[(col < 0) | (col >= in_sites)][0])
        raise ValueError(f"col index {bad} is out of range for {in_sites} input sites")
    within = np.ones(col.size, dtype=bool)
    within[crow[:-1][crow[:-1] < col.size]] = False
    if (np.diff(col)[within[1:]] <= 0).any():
        raise ValueError("the columns of each row must be strictly ascending")


def _pointers(counts: npt.NDArray[np.int64]) -> Ints:
    block_count(int(counts.sum()))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
