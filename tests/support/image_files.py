"""What the tests of the loaders build by hand."""

import numpy as np

TRAIN, TEST = 12, 5


def idx_bytes(array: np.ndarray, magic: int | None = None, count: int | None = None) -> bytes:
    """An idx file of unsigned bytes; `magic` and `count` can be wrong on purpose."""
    head = [0x0800 + array.ndim if magic is None else magic, len(array) if count is None else count, *array.shape[1:]]
    return b"".join(value.to_bytes(4, "big") for value in head) + array.tobytes()


def cifar_arrays(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels (count, 3072) and labels (count,)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, classes, count, dtype=np.uint8)
