"""Which backend computes: each refuses with a reason, or computes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import NamedTuple

import torch

log = logging.getLogger("efcn_kernels")

# in the order of preference; the last takes everything
NAMES = ("cpu", "cuda", "triton", "reference")


class Problem(NamedTuple):
    """What a backend decides on."""

    op: str
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Backend:
    """A name, why it is missing altogether (or None), why it refuses a problem (or None), and the three passes.

    Each pass writes its first argument, whose memory is uninitialised; bsr_linear_backward_weight_sgd steps the weights that it finds there.
    unproven: why it computes only when named, though it could, or None. lasting: whether it refuses the same problems throughout a program.
    """

    name: str
    missing: Callable[[], str | None]
    refuse: Callable[[Problem], str | None]
    bsr_linear: Callable[..., None]
    bsr_linear_backward_input: Callable[..., None]
    bsr_linear_backward_weight: Callable[..., None]
    bsr_linear_backward_weight_sgd: Callable[..., None]
    unproven: str | None = field(default=None, kw_only=True)
    lasting: bool = field(default=True, kw_only=True)

    def compute(self, op: str) -> Callable[..., None]:
        """The pass of that name."""
        pass_: Callable[..., None] = getattr(self, op)
        return pass_

    def reason_against(self, problem: Problem) -> str | None:
        """Why this backend cannot take the problem, or None."""
        return self.missing() or self.refuse(problem)

    @property
    def state(self) -> str:
        """Why it is missing, or "available", with what keeps the automatic choice from it."""
        return self.missing() or ("available" if self.unproven is None else f"available; only when named: {self.unproven}")


@cache
def get(name: str) -> Backend:
    """The backend of that name. Raises ValueError for an unknown one."""
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(('auto', *NAMES))}, got {name!r}")
    backend: Backend = import_module(f"efcn_kernels.ops.backends.{name}").backend
    return backend


def implementation(name: str, problem: Problem) -> Callable[..., None]:
    """The pass `problem.op` of the named backend, or for "auto" of the first that does not refuse and is not unproven.

    EFCN_BACKEND, which is read when the package is imported, stands in for "auto" where it is set. Raises RuntimeError with the reason where a
    named backend refuses.
    """
    if name == "auto":
        name = wish
    # what was found is kept: looking takes longer than a small layer computes
    found = _found.get((name, problem))
    return _look(name, problem) if found is None else found


def _look(name: str, problem: Problem) -> Callable[..., None]:
    chosen = _named(name, problem) if name != "auto" else _first(problem)
    if chosen.lasting:
        _found[name, problem] = chosen.compute(problem.op)
    return chosen.compute(problem.op)


def _named(name: str, problem: Problem) -> Backend:
    reason = get(name).reason_against(problem)
    if reason is not None:
        raise RuntimeError(f"backend {name!r} refuses {problem.op} for {problem.dtype} on {problem.device}: {reason}")
    return get(name)


def _first(problem: Problem) -> Backend:
    for candidate in NAMES:
        reason = get(candidate).reason_against(problem) or get(candidate).unproven
        if reason is None:
            return get(candidate)
        _log_once(candidate, problem.dtype, problem.device.type, reason)
    raise RuntimeError(f"no backend takes {problem.op} for {problem.dtype} on {problem.device}")


# what stands for "auto"; tests and measurements force another one
wish = os.environ.get("EFCN_BACKEND") or "auto"
_found: dict[tuple[str, Problem], Callable[..., None]] = {}


@cache
def _log_once(name: str, dtype: torch.dtype, device_type: str, reason: str) -> None:
    log.info("backend %s does not take %s on %s: %s", name, dtype, device_type, reason)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Let the variable have this value for a while, in the whole process."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def forced_backend(name: str) -> Iterator[None]:
    """Let every op compute with this backend for a while, in the whole process; "auto" forces none."""
    global wish
    before, wish = wish, name
    try:
        yield
    finally:
        wish = before
