"""Reader of the CIFAR python batches that never runs what a pickle asks for.

A pickle is a program. Here it can only build dicts, lists, strings, numbers and arrays of unsigned bytes: the few names that
NumPy's own pickles use are replaced by inert stand-ins, and every other name is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efcn_kernels.study.data.errors import DataError


class _DType:
    """Stand-in for numpy.dtype: remembers its name and nothing else."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: object) -> None:
        """The byte order of unsigned bytes says nothing."""


class _Array:
    """Stand-in for numpy.ndarray: the raw bytes, their type and their shape."""

    shape: tuple[int, ...] = ()
    dtype: object = None
    data: object = b""
    fortran: object = False

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array with an unknown state")
        _, self.shape, self.dtype, self.fortran, self.data = state


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(buffer: object, dtype: object, shape: object, order: object, *_: object) -> _Array:
    array = _Array()
    data = bytes(buffer) if isinstance(buffer, bytes | bytearray) else buffer
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _encode(text: object, codec: object = "latin1") -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise pickle.UnpicklingError(f"an encoding other than latin1: {codec!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        stand_in = _ADMITTED.get((module_name, global_name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"the name {module_name}.{global_name}")
        # a pickle may set attributes on what it gets: a function is therefore handed out as a throw-away
        return stand_in if isinstance(stand_in, type) else lambda *args: stand_in(*args)


# a damaged pickle can fail in any of these ways, all of them harmless
_FAILURES = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
)


def read_batch(path: Path, label_key: str) -> tuple[Tensor, Tensor]:
    """Pixels uint8 (N, 3072) and labels int64 (N,) of one python batch. Raises DataError; executes nothing from the file."""
    try:
        with path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
    except _FAILURES as error:
        right = "a CIFAR batch (a dict of labels and an array of unsigned bytes)"
        raise DataError.of(path, f"a pickle that cannot be admitted: {error}", right) from error
    if not isinstance(content, dict):
        raise DataError.of(path, f"a {type(content).__name__}", f"a dict with the keys 'data' and '{label_key}'")
    # written by Python 2 the keys are bytes, by Python 3 text
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    for key in ("data", label_key):
        if key not in named:
            raise DataError.of(path, f"keys {sorted(map(str, named))}", f"'data' and '{label_key}'")
    return _pixels(path, named["data"]), _labels(path, named[label_key])


def _pixels(path: Path, array: object) -> Tensor:
    dtype = array.dtype.name if isinstance(array, _Array) and isinstance(array.dtype, _DType) else None
    if not isinstance(array, _Array) or dtype not in ("u1", "uint8", "|u1"):
        raise DataError.of(path, "data that is no array of unsigned bytes", "uint8 (N, 3072)")
    shape, data = array.shape, array.data
    plain = isinstance(shape, tuple) and len(shape) == 2 and all(type(extent) is int for extent in shape)
    if not plain or not isinstance(data, bytes):
        raise DataError.of(path, f"data of shape {shape}", "uint8 (N, 3072)")
    if shape[1] != 3072 or shape[0] < 1 or len(data) != shape[0] * 3072 or array.fortran:
        raise DataError.of(path, f"data of shape {shape} in {len(data)} bytes", "uint8 (N, 3072), row by row")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)


def _labels(path: Path, labels: object) -> Tensor:
    if not isinstance(labels, list) or not all(type(label) is int and abs(label) < 2**31 for label in labels):
        raise DataError.of(path, "labels that are no list of integers", "a list of integers")
    return torch.tensor(labels, dtype=torch.int64)
