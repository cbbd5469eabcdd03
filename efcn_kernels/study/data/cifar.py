"""Reader of CIFAR-10 and CIFAR-100 in their binary and python layouts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from efcn_kernels.study.data.catalog import DatasetSpec, Split
from efcn_kernels.study.data.checks import check_count, check_labels
from efcn_kernels.study.data.errors import DataError
from efcn_kernels.study.data.pickles import read_batch

_PIXELS = 3 * 32 * 32
# file stems of each split, label bytes in front of a binary record (the last one counts), and the python key of the labels
_FILES: dict[str, dict[Split, tuple[str, ...]]] = {
    "cifar10": {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "cifar100": {"train": ("train",), "test": ("test",)},
}
_LABEL_BYTES = {"cifar10": 1, "cifar100": 2}
_LABEL_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}


def suffix(spec: DatasetSpec, folder: Path) -> str:
    """ ".bin" for the binary layout, "" for the python one: the layout of which `folder` has more files."""
    counts = {end: sum((folder / f"{stem}{end}").is_file() for stem in _stems(spec)) for end in (".bin", "")}
    return max(counts, key=lambda end: counts[end])


def missing(spec: DatasetSpec, folder: Path) -> list[str]:
    """Names of the files that `folder` lacks."""
    end = suffix(spec, folder)
    return [f"{stem}{end}" for stem in _stems(spec) if not (folder / f"{stem}{end}").is_file()]


def read(spec: DatasetSpec, folder: Path, split: Split, *, partial: bool = False) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and (for CIFAR-100: fine) labels int64 (N,) of one split. Raises DataError."""
    end, stems = suffix(spec, folder), _FILES[spec.layout][split]
    per_file = spec.count(split) // len(stems)
    images, labels = [], []
    for stem in stems:
        path = folder / f"{stem}{end}"
        if end == ".bin":
            pixels, marks = _read_binary(path, _LABEL_BYTES[spec.layout], per_file, partial)
        else:
            pixels, marks = read_batch(path, _LABEL_KEY[spec.layout])
            check_count(path, len(pixels), per_file, partial)
        if len(pixels) != len(marks):
            raise DataError.of(path, f"{len(marks)} labels", f"{len(pixels)}, one for each image")
        check_labels(path, marks, len(spec.classes))
        images.append(pixels)
        labels.append(marks)
    return torch.cat(images).reshape(-1, 3, 32, 32), torch.cat(labels)


def _read_binary(path: Path, label_bytes: int, limit: int, partial: bool) -> tuple[Tensor, Tensor]:
    record, size = label_bytes + _PIXELS, path.stat().st_size
    if size == 0 or size % record:
        raise DataError.of(path, f"{size} bytes", f"{limit} records of {record} bytes, {limit * record} bytes")
    check_count(path, size // record, limit, partial)
    rows = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8).reshape(-1, record)
    return rows[:, label_bytes:].contiguous(), rows[:, label_bytes - 1].long()


def _stems(spec: DatasetSpec) -> tuple[str, ...]:
    return (*_FILES[spec.layout]["train"], *_FILES[spec.layout]["test"])


def binary_names(spec: DatasetSpec) -> tuple[str, ...]:
    """File names of the binary layout of `spec`."""
    return tuple(f"{stem}.bin" for stem in _stems(spec))
