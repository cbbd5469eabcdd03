"""Which of our kernels the suite looks at: a backend, or some kernels of it that are to compute alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from efcn_kernels.bench.device import backends
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.backends import cuda
from efcn_kernels.ops.dispatch import Problem


class Engine(NamedTuple):
    """A backend, and for cuda the path that its kernels are kept to."""

    backend: str
    path: str | None = None

    def __str__(self) -> str:
        return self.backend if self.path is None else f"{self.backend} on {self.path}"

    @contextmanager
    def forced(self) -> Iterator[None]:
        """Let every op compute with this for a while."""
        with dispatch.forced_backend(self.backend):
            if self.path is None:
                yield
            else:
                with cuda.forced_path(self.path):
                    yield

    def dtypes(self, device: torch.device, among: tuple[torch.dtype, ...]) -> list[torch.dtype]:
        """Those that it does not refuse."""
        with self.forced():
            return [dtype for dtype in among if dispatch.get(self.backend).refuse(Problem("bsr_linear", device, dtype)) is None]


def engines(device: torch.device) -> tuple[list[Engine], dict[str, str]]:
    """What computes float32 on the device, every path of cuda by itself; and why cuda, by name, is not among them."""
    states = backends(device, torch.float32)
    there = [name for name, reason in states.items() if reason is None]
    found = [Engine(name, path) for name in there for path in (cuda.PATHS[1:] if name == "cuda" else (None,))]
    return found, {name: reason for name, reason in states.items() if name == "cuda" and reason is not None}
