"""The optional dependencies: what the extra `study` brings, and what of it is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec

# as pyproject.toml has them; all are imported by these names
STUDY = ("matplotlib", "pydantic", "scipy", "safetensors", "pooch", "jinja2", *(("tomli",) if sys.version_info < (3, 11) else ()))
INSTALL = "pip install 'efcn_kernels[study]'"


def missing(names: tuple[str, ...] = STUDY) -> list[str]:
    """Those that cannot be imported. Looks for them without importing them."""
    return [name for name in names if name not in sys.modules and _absent(name)]


def why_not(what: str, names: tuple[str, ...] = STUDY) -> str | None:
    """Why `what` cannot run, as one line that says what to install; None where all is there."""
    absent = missing(names)
    return f"{what} needs {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed: {INSTALL}" if absent else None


def require(what: str, *names: str) -> None:
    """Raises ImportError, saying what to install, where `what` cannot run."""
    if (reason := why_not(what, names)) is not None:
        raise ImportError(reason)


def _absent(name: str) -> bool:
    try:
        return find_spec(name) is None
    except (ImportError, ValueError):
        return True
