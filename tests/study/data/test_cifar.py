"""Reading CIFAR-10 and CIFAR-100: both layouts, every damage, and pickles that want to run something."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efcn_kernels.study.data.sets import DataError, ImageData, load

Writer = Callable[..., tuple[np.ndarray, np.ndarray]]
PLACES = [
    ("cifar10", 10, "binary", "cifar-10-batches-bin"),
    ("cifar10", 10, "python", "cifar-10-batches-py"),
    ("cifar10", 10, "binary", "."),
    ("cifar10", 10, "python", "."),
    ("cifar100", 100, "binary", "cifar-100-binary"),
    ("cifar100", 100, "python", "cifar-100-python"),
    ("cifar100", 100, "python", "."),
]


@pytest.mark.parametrize(("name", "classes", "layout", "place"), PLACES)
def test_every_layout(tmp_path: Path, write_cifar: Writer, name: str, classes: int, layout: str, place: str) -> None:
    pixels, labels = write_cifar(tmp_path / place, classes, layout)
    data = load(name, tmp_path, download=False, partial=True)
    np.testing.assert_array_equal(data.train_images.numpy(), pixels.reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(data.train_labels.numpy(), labels)
    assert data.test_images.shape == (3, 3, 32, 32)
    assert len(data.classes) == classes
    assert data.normalised("train").shape == data.train_images.shape


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol(tmp_path: Path, write_cifar: Writer, protocol: int) -> None:
    pixels, _ = write_cifar(tmp_path, 100, "python", protocol)
    data = load("cifar100", tmp_path, download=False, partial=True)
    np.testing.assert_array_equal(data.train_images.flatten(1).numpy(), pixels)


def _python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes that Python 2 and an old NumPy wrote: byte strings, text names of the old modules."""
    raw = pixels.tobytes()
    text = b"T" + len(raw).to_bytes(4, "little") + raw
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"K" + bytes([len(pixels)]) + b"M\x00\x0c\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape + dtype + b"\x89" + text + b"tb"
    marks = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + marks + b"u."


def test_the_original_python2_pickles(tmp_path: Path, write_cifar: Writer) -> None:
    write_cifar(tmp_path, 10, "python")
    pixels = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    (tmp_path / "test_batch").write_bytes(_python2_batch(pixels, [3, 8]))
    data = load("cifar10", tmp_path, download=False, partial=True)
    np.testing.assert_array_equal(data.test_images.flatten(1).numpy(), pixels)
    assert data.test_labels.tolist() == [3, 8]


@pytest.mark.parametrize("found", [5000 * 3073, 1])
def test_a_binary_file_of_wrong_size(tmp_path: Path, write_cifar: Writer, found: int) -> None:
    write_cifar(tmp_path, 10, "binary")
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(found))
    expected = "5000 items; expected 10000" if found > 1 else "1 bytes; expected 10000 records of 3073 bytes, 30730000 bytes"
    with pytest.raises(DataError, match=expected):
        load("cifar10", tmp_path, download=False)


def test_labels_out_of_range(tmp_path: Path, write_cifar: Writer) -> None:
    write_cifar(tmp_path, 10, "binary")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073) + b"\x0b" + bytes(3072))
    with pytest.raises(DataError, match=r"test_batch\.bin: found label 11 at item 1; expected labels from 0 to 9"):
        load("cifar10", tmp_path, download=False, partial=True)


class _Command:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


PIXELS = np.zeros((3, 3072), dtype=np.uint8)
BAD: dict[str, tuple[Any, str]] = {
    "no dict": ([1, 2], "found a list; expected a dict"),
    "no labels": ({b"data": PIXELS}, "found keys ['data']; expected 'data' and 'labels'"),
    "floats": ({b"data": PIXELS.astype(np.float32), b"labels": [0, 0, 0]}, "data that is no array of unsigned bytes"),
    "objects": ({b"data": np.array([[None]]), b"labels": [0]}, "data that is no array of unsigned bytes"),
    "shape": ({b"data": PIXELS[:, :5], b"labels": [0, 0, 0]}, "data of shape (3, 5)"),
    "fewer labels": ({b"data": PIXELS, b"labels": [0, 0]}, "2 labels; expected 3"),
    "labels of text": ({b"data": PIXELS, b"labels": ["cat"] * 3}, "labels that are no list of integers"),
    "label too large": ({b"data": PIXELS, b"labels": [0, 0, 10]}, "label 10 at item 2"),
    "label negative": ({b"data": PIXELS, b"labels": [0, -1, 0]}, "label -1 at item 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_python_batches(tmp_path: Path, write_cifar: Writer, case: str) -> None:
    content, message = BAD[case]
    write_cifar(tmp_path, 10, "python")
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load("cifar10", tmp_path, download=False, partial=True)
    assert str(tmp_path / "data_batch_2") in str(caught.value)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, write_cifar: Writer) -> None:
    write_cifar(tmp_path, 10, "python")
    marker = tmp_path / "ran"
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": _Command(marker), b"labels": [0]}))
    with pytest.raises(DataError, match=r"data_batch_1: found a pickle that cannot be admitted: the name \w+\.system"):
        load("cifar10", tmp_path, download=False, partial=True)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "numpy\nload", "numpy.core.multiarray\nfromfile", "torch\nload", "_codecs\ndecode"])
def test_other_names_are_refused(tmp_path: Path, write_cifar: Writer, name: str) -> None:
    write_cifar(tmp_path, 10, "python")
    (tmp_path / "test_batch").write_bytes(b"c" + name.encode() + b"\n(U\x01atR.")
    with pytest.raises(DataError, match="the name " + name.replace("\n", ".")):
        load("cifar10", tmp_path, download=False, partial=True)


def test_a_pickle_cannot_change_the_reader(tmp_path: Path, write_cifar: Writer) -> None:
    write_cifar(tmp_path, 10, "python")
    # BUILD with a slot state sets attributes of the admitted function
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02c_codecs\nencode\n(N}U\x0c__defaults__U\x04rot1\x85stb.")
    with pytest.raises(DataError):
        load("cifar10", tmp_path, download=False, partial=True)
    write_cifar(tmp_path, 10, "python")
    assert len(load("cifar10", tmp_path, download=False, partial=True).train_labels) == 15


@pytest.mark.parametrize("length", [0, 1, 30, 5000])
def test_truncated_python_batches(tmp_path: Path, write_cifar: Writer, length: int) -> None:
    write_cifar(tmp_path, 10, "python")
    path = tmp_path / "test_batch"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="test_batch"):
        load("cifar10", tmp_path, download=False, partial=True)


def test_published_cifar10(published: Callable[[str], ImageData]) -> None:
    data = published("cifar10")
    assert data.train_images.shape == (50_000, 3, 32, 32)
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_labels[:5].tolist() == [6, 9, 9, 4, 1]
    mean = data.train_images.double().mean((0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.491, 0.482, 0.447], dtype=torch.float64), atol=1e-3, rtol=0)
