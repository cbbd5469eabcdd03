"""Checks that all readers share."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from efcn_kernels.study.data.errors import DataError


def check_count(path: Path, found: int, expected: int, partial: bool) -> None:
    """Raise DataError unless `path` holds `expected` items, or, with `partial`, between 1 and that many."""
    if found == expected or (partial and 0 < found < expected):
        return
    hint = "" if partial or found > expected else " (partial=True accepts a shortened set)"
    raise DataError.of(path, f"{found} items", f"{'1 to ' * partial}{expected}{hint}")


def check_labels(path: Path, labels: Tensor, classes: int) -> None:
    """Raise DataError if a label of `labels` (N,) is not in 0 .. classes - 1."""
    wrong = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError.of(path, f"label {int(labels[first])} at item {first}", f"labels from 0 to {classes - 1}")
