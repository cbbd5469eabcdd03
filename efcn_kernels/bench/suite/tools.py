"""Tools around a small script: compute-sanitizer looks for wrong accesses, a profiler says where the time goes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from efcn_kernels.bench.step import Ours
from efcn_kernels.bench.suite.layers import LAYERS

SANITIZERS = ("memcheck", "racecheck", "initcheck")
_SMALL = ("-m", "efcn_kernels.bench.suite.small")
# what is kept of a tool's output
_LINES = 40
_PROFILED = ("alexnet.conv2", "resnet224.conv2", "alexnet.conv1")
_SHOWN_KERNELS = 12


class Missing(RuntimeError):
    """A tool is not on this machine."""


def sanitizers(device: torch.device, limit_s: float) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each sanitizer, which may take so long."""
    return {tool: _sanitizer(tool, device, limit_s) for tool in SANITIZERS}


def _sanitizer(tool: str, device: torch.device, limit_s: float) -> Callable[[], dict[str, Any]]:
    return lambda: sanitized(("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, *_SMALL, str(device)), limit_s)


def sanitized(command: tuple[str, ...], limit_s: float) -> dict[str, Any]:
    """The end of what the command printed. Raises Missing where there is no such tool, RuntimeError where it found something."""
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not on the PATH: it comes with CUDA's toolkit")
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    lines = (done.stdout + done.stderr).splitlines()[-_LINES:]
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: " + "\n".join(lines))
    return {"command": " ".join(command), "output": lines}


def profiles(device: torch.device) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each profiled layer."""
    return {f"{name}, N 256, bfloat16": _profile(name, device) for name in _PROFILED}


def _profile(name: str, device: torch.device) -> Callable[[], dict[str, Any]]:
    return lambda: profiled(Ours.make(next(case for case in LAYERS if case.name == name), 256, torch.bfloat16, device))


def profiled(ours: Ours) -> dict[str, Any]:
    """Microseconds of each kernel (on a CPU: operator) in one step, the longest first, and how often it ran."""
    device = ours.x.device.type
    step = ours.step()
    step()
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else [])]
    with torch.profiler.profile(activities=kinds) as profile:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
    times = {event.key: (event.self_device_time_total if device == "cuda" else event.self_cpu_time_total, event.count) for event in profile.key_averages()}
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:_SHOWN_KERNELS]
    return {"layer": str(ours.case), "kernels": [{"name": name, "us": us, "calls": calls} for name, (us, calls) in longest if us > 0]}
