"""What other programs say: compute-sanitizer of wrong accesses, pytest of the kernels' own tests, a profiler of where the time goes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.suite.layers import BATCH
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.device import best_backend
from efcn_kernels.bench.step import Ours

SANITIZERS = ("memcheck", "racecheck", "initcheck")
_SMALL = ("-m", "benchmarks.suite.small")
# what is kept of a tool's output
_LINES = 40
# a wide layer, one that is bound by memory, one of few channels
PROFILED = ("alexnet.conv2", "resnet224.conv5", "alexnet.conv1")
_SHOWN_KERNELS = 12


def sanitizers(device: torch.device, limit_s: float) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each sanitizer, which may take so long."""
    return {tool: _sanitizer(tool, device, limit_s) for tool in SANITIZERS}


def kernel_tests(device: torch.device, limit_s: float) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each file of tests that runs on a GPU where there is one; none outside of a source tree and on a CPU, where CI runs them."""
    tests = Path(__file__).parents[2] / "tests"
    files = sorted([*tests.glob("ops/test_triton*.py"), *tests.glob("ops/test_cuda.py")]) if device.type == "cuda" else []
    return {path.name: _tests(path, limit_s) for path in files}


def _tests(path: Path, limit_s: float) -> Callable[[], dict[str, Any]]:
    return lambda: output_of((sys.executable, "-m", "pytest", "-q", "-n", "8", "-p", "no:cacheprovider", str(path)), limit_s)


def _sanitizer(tool: str, device: torch.device, limit_s: float) -> Callable[[], dict[str, Any]]:
    return lambda: output_of(("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, *_SMALL, str(device)), limit_s)


def output_of(command: tuple[str, ...], limit_s: float) -> dict[str, Any]:
    """The end of what the command printed, or that there is no such tool. Raises RuntimeError where it found something."""
    if shutil.which(command[0]) is None:
        return {"command": " ".join(command), "output": [f"not run, {command[0]} is not on the PATH: it comes with CUDA's toolkit"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    lines = (done.stdout + done.stderr).splitlines()[-_LINES:]
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: " + "\n".join(lines))
    return {"command": " ".join(command), "output": lines}


def profiles(cases: Sequence[Case], device: torch.device) -> dict[str, Callable[[], dict[str, Any]]]:
    """One item for each layer."""
    return {f"{case.name}, N {BATCH}, bfloat16": _profile(case, device) for case in cases}


def _profile(case: Case, device: torch.device) -> Callable[[], dict[str, Any]]:
    return lambda: profiled(Ours.make(case, BATCH, torch.bfloat16, device))


def profiled(ours: Ours) -> dict[str, Any]:
    """Microseconds of each kernel (on a CPU: operator) in one step, the longest first, and how often it ran."""
    device = ours.x.device.type
    step = ours.step(backend=best_backend(ours.x.device, ours.x.dtype))
    step()
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else [])]
    with torch.profiler.profile(activities=kinds) as profile:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
    times = {
        event.key: (event.self_device_time_total if device == "cuda" else event.self_cpu_time_total, event.count) for event in profile.key_averages()
    }
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:_SHOWN_KERNELS]
    return {"layer": str(ours.case), "kernels": [{"name": name, "us": us, "calls": calls} for name, (us, calls) in longest if us > 0]}
