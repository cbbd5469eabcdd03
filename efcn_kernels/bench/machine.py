"""Where and with what a measurement was made."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efcn_kernels.ops import build_info

_PACKAGE = Path(__file__).parent.parent


def provenance() -> dict[str, Any]:
    """date (UTC), machine, commit, versions: what has to stand beside a measurement."""
    info = build_info()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "isa": info["isa"],
            "backend": "cpu" if info["isa"] else "reference",
            "load_at_start": load(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "commit": commit(),
        "versions": {
            "efcn_kernels": info["version"],
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def load() -> float | None:
    """Processes that wanted a core in the last minute, on average; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def commit() -> str | None:
    """The commit that the package was run from, with "+changes" where tracked files differ; None outside its repository."""
    here = ("git", "-C", str(_PACKAGE))
    # an installed package may lie in somebody else's repository: only one that tracks this package counts
    if _output(*here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    revision = _output(*here, "rev-parse", "HEAD")
    changed = _output(*here, "status", "--porcelain", "--untracked-files=no")
    return f"{revision}+changes" if revision and changed else revision


def sources() -> str:
    """A digest of the package's own sources, which tells whether results are those of this code where no commit does."""
    digest = hashlib.sha256()
    for folder, kinds in ((_PACKAGE, ("*.py",)), (_PACKAGE.parent / "csrc", ("*.cpp", "*.h", "*.cu", "*.cuh"))):
        for path in sorted(path for kind in kinds for path in folder.rglob(kind)):
            digest.update(str(path.relative_to(_PACKAGE.parent)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
