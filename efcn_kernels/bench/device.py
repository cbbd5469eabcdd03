"""Measuring on any device: precisions, a clock of the device's own events, and what stands beside the figures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any, NamedTuple

import torch

from efcn_kernels import BlockLayout
from efcn_kernels.bench.machine import available_memory
from efcn_kernels.bench.timing import HOST, Clock
from efcn_kernels.ops import bsr_linear, build_info, dispatch

# more than the second-level cache of any chip so far (H200: 50 to 60 MB, MI300X's last level: 256 MB)
_FLUSHED_BYTES = 512 << 20
# the host needs some hundred microseconds to queue a step; first calls compile for seconds, which no delay is to cover
_LONGEST_DELAY_S = 0.005
_CYCLES_PER_SECOND = 2e9
_QUERY = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw", "power.limit", "temperature.gpu")


class Precision(NamedTuple):
    """A dtype, and whether matrix units may round float32 operands to TF32's 10 bits."""

    dtype: torch.dtype
    tf32: bool = False

    @property
    def rounding(self) -> float:
        """By how much a product of two operands is off at most where they are cut to TF32, relative; 0 where they are not."""
        return 2 * 2**-10 if self.tf32 else 0.0


PRECISIONS = {
    "bfloat16": Precision(torch.bfloat16),
    "tf32": Precision(torch.float32, tf32=True),
    "float32": Precision(torch.float32),
    "float16": Precision(torch.float16),
    "float64": Precision(torch.float64),
}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products and convolutions of float32 through TF32, or in IEEE's float32, for a while: torch's own switches."""
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = allowed
    try:
        yield
    finally:
        for switch, value in zip(switches, before):
            switch.allow_tf32 = value


def backends(device: torch.device, dtype: torch.dtype) -> dict[str, str | None]:
    """Why each backend does not compute this dtype on this device, or None where it does, in the order in which they are tried."""
    x, values = torch.ones(1, 1, 1, dtype=dtype, device=device), torch.ones(1, 1, 1, dtype=dtype, device=device)
    found: dict[str, str | None] = {}
    for name, state in build_info()["backends"].items():
        there = state.startswith("available")
        found[name] = None if there else state
        if there:
            try:
                bsr_linear(x, values, BlockLayout.full(1, 1), backend=name)
            except RuntimeError as error:
                found[name] = str(error)
    return found


def best_backend(device: torch.device, dtype: torch.dtype) -> str:
    """The first proven one with kernels of its own that computes this dtype there, whatever EFCN_BACKEND says; else the reference."""
    there = [name for name, reason in backends(device, dtype).items() if reason is None and dispatch.get(name).unproven is None]
    return next((name for name in there if name != "reference"), "reference")


def clock(device: torch.device, *, flush: bool = True) -> Clock:
    """The host's clock for the CPU; for a GPU its own events around each call, after a write of all of its second-level cache.

    flush: whether to do that, and to keep the device busy until the step is queued, so that what is timed is the device's
    work; else a step is timed as a training script meets it, with what the host is too slow for.
    """
    return Clock(_Events(device, flush).seconds, 0.0) if device.type == "cuda" else HOST


class _Events:
    """Seconds between two events around a call."""

    def __init__(self, device: torch.device, flush: bool) -> None:
        self._flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device=device) if flush else None
        self._queueing: dict[Callable[[], object], float] = {}

    def seconds(self, step: Callable[[], object], calls: int) -> float:
        total = 0.0
        for _ in range(calls):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if self._flushed is not None:
                self._flushed.zero_()
                delay = min(1.5 * self._queueing.get(step, 0.0), _LONGEST_DELAY_S)
                torch.cuda._sleep(int(delay * _CYCLES_PER_SECOND))
            start = perf_counter()
            begin.record()
            step()
            end.record()
            self._queueing[step] = perf_counter() - start
            end.synchronize()
            total += begin.elapsed_time(end) / 1e3
        return total


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated, None where the system does not say."""
    if device.type != "cuda":
        return available_memory()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def hardware(device: torch.device) -> dict[str, Any]:
    """What the GPU is, and its clocks, power and temperature now; empty for the CPU, of which provenance() tells."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
        "triton": _triton(),
        "nvidia_smi": _nvidia_smi(),
    }


def _triton() -> str | None:
    try:
        return version("triton")
    except PackageNotFoundError:
        return None


def _nvidia_smi() -> dict[str, str] | None:
    """Clocks in MHz, power in W, temperature in degrees Celsius; None where the tool is missing."""
    command = ("nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(_QUERY, (word.strip() for word in done.stdout.splitlines()[0].split(","))))
