"""Image sets of the study: standard files from a folder, a checked download, or the small set inside the package."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from efcn_kernels.study.data import cifar, idx
from efcn_kernels.study.data.catalog import CATALOG, FASHION_MNIST, DatasetSpec, Split
from efcn_kernels.study.data.download import download as fetch
from efcn_kernels.study.data.download import unpack, what_to_put_where
from efcn_kernels.study.data.errors import DataError, MissingDataError

__all__ = ["EMBEDDED", "NAMES", "DataError", "ImageData", "MissingDataError", "load"]

EMBEDDED = "fashion-mnist-small"
NAMES = (EMBEDDED, *CATALOG)
_EMBEDDED_FOLDER = Path(__file__).parent / "embedded"


@dataclass(frozen=True, eq=False)
class ImageData:
    """An image set in memory: images uint8 (N, C, H, W), labels int64 (N,).

    `mean` and `std` are per channel, for pixels scaled to 0 .. 1; `classes` are the names of the labels in order.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of image channels C."""
        return self.train_images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Image height and width in pixels."""
        return self.train_images.shape[2], self.train_images.shape[3]

    def normalised(self, split: Split) -> Tensor:
        """The images of `split`, float32 (N, C, H, W), channels_last: (pixel / 255 - mean) / std. Raises ValueError for an unknown split."""
        if split not in ("train", "test"):
            raise ValueError(f"unknown split {split!r}: expected 'train' or 'test'")
        images = self.train_images if split == "train" else self.test_images
        mean, std = (torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in (self.mean, self.std))
        # one pass over the set: pixel * scale + shift
        return images.to(torch.float32, memory_format=torch.channels_last).mul_(1 / (255 * std)).sub_(mean / std)

    def labels(self, split: Split) -> Tensor:
        """The labels of `split`, int64 (N,)."""
        return self.train_labels if split == "train" else self.test_labels

    def first(self, train: int, test: int) -> ImageData:
        """The first `train` training and `test` test images as a set of its own."""
        return ImageData(
            self.name,
            self.train_images[:train],
            self.train_labels[:train],
            self.test_images[:test],
            self.test_labels[:test],
            self.classes,
            self.mean,
            self.std,
        )


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    partial: bool = False,
    console: Console | None = None,
) -> ImageData:
    """Load an image set by name (see NAMES).

    Standard files are looked for in `data_dir` (else in the folder that the environment variable EFCN_DATA names) and in pooch's cache, in
    their usual subfolders, gzipped or plain, binary or python layout. If they are nowhere they are downloaded, with checksum and, given a
    `console`, a progress bar. `partial` admits files that hold only the first part of the published set.

    Raises ValueError for an unknown name, DataError for a file that is not what it should be, and MissingDataError (a DataError) if the set is
    not there and cannot, or with `download=False` must not, be downloaded.
    """
    if name == EMBEDDED:
        return _read(FASHION_MNIST, _EMBEDDED_FOLDER, EMBEDDED, partial=True)
    spec = CATALOG.get(name)
    if spec is None:
        raise ValueError(f"unknown data set {name!r}: expected one of {', '.join(NAMES)}")
    roots = _roots(data_dir)
    folder = next((place for root in roots for place in _places(spec, root)), None)
    if folder is None:
        folder = _obtain(spec, roots, download, console)
    return _read(spec, folder, name, partial=partial)


def _roots(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Folders to search, the first of which also takes downloads."""
    import pooch  # type: ignore[import-untyped]

    given = data_dir if data_dir is not None else os.environ.get("EFCN_DATA") or None
    cache = Path(pooch.os_cache("efcn_kernels"))
    return [Path(given).expanduser(), cache] if given is not None else [cache]


def _lacking(spec: DatasetSpec, folder: Path) -> list[str]:
    return idx.missing(folder) if spec.layout == "idx" else cifar.missing(spec, folder)


def _places(spec: DatasetSpec, root: Path) -> list[Path]:
    """The folders under `root` that hold the whole set."""
    return [root / sub for sub in spec.folders if (root / sub).is_dir() and not _lacking(spec, root / sub)]


def _obtain(spec: DatasetSpec, roots: list[Path], download: bool, console: Console | None) -> Path:
    if spec.layout != "idx":
        for root in roots:
            if any((root / name).is_file() for name in spec.downloads):
                return unpack(spec, root)
    note = _incomplete(spec, roots)
    if not download:
        raise MissingDataError(what_to_put_where(spec, roots[0], f"{note}downloading is switched off"))
    return fetch(spec, roots[0], console, note)


def _incomplete(spec: DatasetSpec, roots: list[Path]) -> str:
    """A clause about the first folder that has a part of the set's files: most often one file was forgotten."""
    for root in roots:
        for sub in spec.folders:
            lacking = _lacking(spec, root / sub)
            if len(lacking) < (4 if spec.layout == "idx" else len(cifar.binary_names(spec))):
                return f"{root / sub} lacks {', '.join(lacking)}, and "
    return ""


def _read(spec: DatasetSpec, folder: Path, name: str, *, partial: bool) -> ImageData:
    read = idx.read if spec.layout == "idx" else cifar.read
    try:
        train_images, train_labels = read(spec, folder, "train", partial=partial)
        test_images, test_labels = read(spec, folder, "test", partial=partial)
    except OSError as error:
        raise DataError.of(Path(error.filename or folder), f"a file that cannot be read ({error.strerror})", "a readable one") from error
    return ImageData(name, train_images, train_labels, test_images, test_labels, spec.classes, spec.mean, spec.std)
