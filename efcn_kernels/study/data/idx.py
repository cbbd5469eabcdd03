"""Reader of idx files (MNIST and Fashion-MNIST), gzipped or plain."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from efcn_kernels.study.data.catalog import DatasetSpec, Split
from efcn_kernels.study.data.checks import check_count, check_labels
from efcn_kernels.study.data.errors import DataError

_IMAGES_MAGIC, _LABELS_MAGIC = 0x0803, 0x0801
_STEMS = {"train": "train", "test": "t10k"}


def locate(folder: Path) -> dict[str, Path]:
    """The idx files in `folder`: keys "train-images", "train-labels", "test-images", "test-labels".

    Each may be gzipped or plain, and have the dot that some mirrors write instead of the last hyphen. What is not there is left out.
    """
    found: dict[str, Path] = {}
    for split, stem in _STEMS.items():
        for what, rank in (("images", 3), ("labels", 1)):
            for joint in ("-", "."):
                name = f"{stem}-{what}{joint}idx{rank}-ubyte"
                for path in (folder / f"{name}.gz", folder / name):
                    if path.is_file():
                        found.setdefault(f"{split}-{what}", path)
    return found


def missing(folder: Path) -> list[str]:
    """Standard names of the files that `folder` lacks."""
    found = locate(folder)
    return [
        f"{stem}-{what}-idx{rank}-ubyte.gz"
        for split, stem in _STEMS.items()
        for what, rank in (("images", 3), ("labels", 1))
        if f"{split}-{what}" not in found
    ]


def read(spec: DatasetSpec, folder: Path, split: Split, *, partial: bool = False) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 1, H, W) and labels int64 (N,) of one split. Raises DataError on anything unexpected."""
    files = locate(folder)
    images_path, labels_path = files[f"{split}-images"], files[f"{split}-labels"]
    limit = spec.count(split)
    labels = _payload(labels_path, _LABELS_MAGIC, (), limit, partial)
    images = _payload(images_path, _IMAGES_MAGIC, (spec.size, spec.size), limit, partial)
    if len(images) != len(labels):
        raise DataError.of(labels_path, f"{len(labels)} labels", f"{len(images)}, one for each image of {images_path.name}")
    check_labels(labels_path, labels, len(spec.classes))
    other = spec.mistaken_for(split, tuple(labels[:8].tolist()))
    if other is not None:
        raise DataError.of(labels_path, f"the labels of {other}", f"those of {spec.name} (the two sets share their file names)")
    return images.unsqueeze(1), labels.long()


def _payload(path: Path, magic: int, item: tuple[int, ...], limit: int, partial: bool) -> Tensor:
    """The items of one idx file, uint8 (N, *item)."""
    rank = 1 + len(item)
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw
        header = _take(path, stream, 4 + 4 * rank)
        if len(header) < 4 + 4 * rank:
            raise DataError.of(path, f"only {len(header)} bytes", f"an idx header of {4 + 4 * rank} bytes")
        words = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
        if words[0] != magic:
            right = f"0x{magic:08x} (idx, unsigned byte, {rank} dimension{'s' * (rank > 1)})"
            raise DataError.of(path, f"magic number 0x{words[0]:08x}", right)
        count, found_item = words[1], tuple(words[2:])
        if found_item != item:
            raise DataError.of(path, f"items of size {_by(found_item)}", f"{_by(item)}")
        check_count(path, count, limit, partial)
        size = count
        for extent in item:
            size *= extent
        # one byte more than announced, so that a longer file is noticed and a gzip trailer is checked
        body = _take(path, stream, size + 1)
    if len(body) != size:
        found = f"{len(body)} bytes" if len(body) < size else "more bytes"
        raise DataError.of(path, f"{found} after the header", f"{size}, as the header says ({count} items)")
    return torch.frombuffer(bytearray(body), dtype=torch.uint8).reshape(count, *item)


def _take(path: Path, stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes; damage to a gzip stream becomes a DataError."""
    try:
        return stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        right = "a whole one; delete it to have it downloaded again"
        raise DataError.of(path, f"a truncated or damaged gzip file ({error})", right) from error


def _by(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents)) or "1"
