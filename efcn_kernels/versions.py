"""Which versions of torch this package is built and tested with.

The one place that says so: setup.py and build_tools/environment.py run this file by itself, so it imports nothing but the standard library.
"""

from __future__ import annotations

import multiprocessing
import re
import warnings

# the stable ABI of the oldest serves all later ones; a newer one than the newest is expected to work and has not been tested
OLDEST_TORCH, NEWEST_TORCH = (2, 11), (2, 13)
TESTED = f"{OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} to {NEWEST_TORCH[0]}.{NEWEST_TORCH[1]}"


def parsed(version: str) -> tuple[int, int]:
    """(major, minor) of a version such as 2.13.0+cpu. Raises ValueError for what is no version."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise ValueError(f"expected a version such as {NEWEST_TORCH[0]}.{NEWEST_TORCH[1]}.0, got {version!r}")
    return int(found[1]), int(found[2])


def refused(version: str) -> str | None:
    """Why this torch cannot be used, or None."""
    if parsed(version) >= OLDEST_TORCH:
        return None
    oldest = f"{OLDEST_TORCH[0]}.{OLDEST_TORCH[1]}"
    return f"efcn_kernels needs torch {oldest} or newer, and this is torch {version}: pip install 'torch>={oldest}'"


def untested(version: str) -> str | None:
    """That this torch is newer than the tested ones, or None."""
    if parsed(version) <= NEWEST_TORCH:
        return None
    return f"efcn_kernels is tested with torch {TESTED}, and this is torch {version}: it should work, `efcn verify` checks it"


def check(version: str) -> None:
    """Raises ImportError for a torch that is too old; warns once of one that has not been tested."""
    if (reason := refused(version)) is not None:
        raise ImportError(reason)
    # once: the processes that a program starts have nothing new to say
    if (note := untested(version)) is not None and multiprocessing.parent_process() is None:
        # at the user's import statement: above it are this function and the package
        warnings.warn(note, stacklevel=3)
