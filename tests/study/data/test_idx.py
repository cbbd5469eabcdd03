"""Reading MNIST and Fashion-MNIST: every place and form, every damage."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from efcn_kernels.study.data.sets import DataError, ImageData, MissingDataError, load
from tests.support.image_files import TEST, TRAIN, idx_bytes

PLACES = {
    "fashion-mnist": [".", "fashion-mnist", "FashionMNIST/raw"],
    "mnist": [".", "mnist", "MNIST/raw"],
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("name", "place"), [(name, place) for name, places in PLACES.items() for place in places])
def test_every_usual_place_and_form(tmp_path: Path, write_idx: Callable[..., dict[str, np.ndarray]], name: str, place: str, zipped: bool) -> None:
    arrays = write_idx(tmp_path / place, zipped=zipped)
    data = load(name, tmp_path, download=False, partial=True)
    assert data.name == name
    assert data.train_images.shape == (TRAIN, 1, 28, 28)
    assert data.test_images.shape == (TEST, 1, 28, 28)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64
    np.testing.assert_array_equal(data.train_images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test_labels.numpy(), arrays["t10k-labels-idx1-ubyte"])


def test_names_with_a_dot_and_the_environment_variable(tmp_path: Path, write_idx: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, joint=".", zipped=False)
    monkeypatch.setenv("EFCN_DATA", str(tmp_path))
    assert len(load("mnist", download=False, partial=True).train_labels) == TRAIN


def test_normalised_is_the_formula(tmp_path: Path, write_idx: Callable[..., object]) -> None:
    write_idx(tmp_path)
    data = load("mnist", tmp_path, download=False, partial=True)
    expected = (data.test_images.double() / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(data.normalised("test"), expected.float(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="unknown split"):
        data.normalised("validation")  # type: ignore[arg-type]


def test_a_shortened_set_needs_to_be_asked_for(tmp_path: Path, write_idx: Callable[..., object]) -> None:
    write_idx(tmp_path)
    with pytest.raises(DataError, match=r"train-labels.*found 12 items; expected 60000.*partial=True"):
        load("mnist", tmp_path, download=False)


_IMAGES = np.zeros((TRAIN, 28, 28), dtype=np.uint8)
_LABELS = np.zeros(TRAIN, dtype=np.uint8)
DAMAGE: dict[str, tuple[str, bytes, str]] = {
    "truncated gzip": ("train-images-idx3-ubyte.gz", gzip.compress(idx_bytes(_IMAGES))[:40], "truncated or damaged gzip"),
    "wrong checksum": ("train-images-idx3-ubyte.gz", gzip.compress(idx_bytes(_IMAGES))[:-8] + b"\0" * 8, "truncated or damaged gzip"),
    "not a gzip inside": ("train-images-idx3-ubyte.gz", b"\x1f\x8bnonsense", "truncated or damaged gzip"),
    "empty": ("train-images-idx3-ubyte.gz", b"", "only 0 bytes; expected an idx header of 16 bytes"),
    "an error page": ("train-labels-idx1-ubyte.gz", b"<html>404</html>", "magic number 0x3c68746d; expected 0x00000801"),
    "wrong magic": ("train-images-idx3-ubyte.gz", idx_bytes(_IMAGES, magic=0x0D03), "magic number 0x00000d03; expected 0x00000803"),
    "images for labels": ("train-labels-idx1-ubyte.gz", idx_bytes(_IMAGES), "magic number 0x00000803; expected 0x00000801"),
    "wrong size": ("train-images-idx3-ubyte.gz", idx_bytes(_IMAGES[:, :14]), "items of size 14x28; expected 28x28"),
    "count too large": ("train-images-idx3-ubyte.gz", idx_bytes(_IMAGES, count=2**31), "2147483648 items; expected"),
    "count zero": ("train-labels-idx1-ubyte.gz", idx_bytes(_LABELS[:0]), "0 items; expected"),
    "short": ("train-images-idx3-ubyte.gz", idx_bytes(_IMAGES)[:-1], "9407 bytes after the header; expected 9408"),
    "long": ("train-images-idx3-ubyte.gz", idx_bytes(_IMAGES) + b"\0", "more bytes after the header; expected 9408"),
    "fewer labels": ("train-labels-idx1-ubyte.gz", idx_bytes(_LABELS[:-1]), "11 labels; expected 12"),
    "label out of range": (
        "train-labels-idx1-ubyte.gz",
        idx_bytes(np.append(_LABELS[1:], np.uint8(10))),
        "label 10 at item 11; expected labels from 0 to 9",
    ),
    "another set": (
        "train-labels-idx1-ubyte.gz",
        idx_bytes(np.array([9, 0, 0, 3, 0, 2, 7, 2, 0, 0, 0, 0], dtype=np.uint8)),
        "the labels of fashion-mnist; expected those of mnist",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path: Path, write_idx: Callable[..., object], case: str) -> None:
    name, content, message = DAMAGE[case]
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load("mnist", tmp_path, download=False, partial=True)
    assert str(tmp_path / name) in str(caught.value)


def test_a_forgotten_file_is_named(tmp_path: Path, write_idx: Callable[..., object]) -> None:
    write_idx(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(MissingDataError, match=r"mnist lacks t10k-labels-idx1-ubyte\.gz"):
        load("mnist", tmp_path, download=False)


def test_a_file_that_cannot_be_read(tmp_path: Path, write_idx: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: found a file that cannot be read \(Permission denied\)"):
        load("mnist", tmp_path, download=False, partial=True)


def test_nothing_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        load("fashion-mnist", tmp_path, download=False)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("train-images-idx3-ubyte.gz", "http://fashion-mnist", str(tmp_path / "fashion-mnist"), "EFCN_DATA", "--data-dir"):
        assert part in text


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown data set 'imagenet': expected one of fashion-mnist-small, fashion-mnist"):
        load("imagenet")


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860)])
def test_published_files(published: Callable[[str], ImageData], name: str, mean: float) -> None:
    data = published(name)
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert abs(float(data.train_images.double().mean() / 255) - mean) < 1e-4
    mnist_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(data.test_labels).tolist() == (mnist_counts if name == "mnist" else [1000] * 10)
