"""Makes the environment of `make`: `PYTHON build_tools/environment.py FOLDER REQUIREMENT...`.

A torch that PYTHON can import is used if its version is supported: the new environment then sees PYTHON's packages. If not, REQUIREMENT
(torch==2.13.0, or any other arguments of pip install) is installed into the new environment. Needs the standard library alone.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

OLDEST_PYTHON = (3, 10)
# a line for each folder of packages, which Python appends to its path
LINK = "efcn_kernels_link.pth"

_ASK = "import sys, torch; print(torch.__version__); print(*(p for p in sys.path if p.endswith(('site-packages', 'dist-packages'))), sep='\\n')"


def torch_of(python: str | Path) -> tuple[str, list[str]] | None:
    """(version, folders of packages) of the torch that `python` imports, or None."""
    # away from here: this folder has packages of its own
    asked = subprocess.run([str(python), "-c", _ASK], cwd="/", capture_output=True, text=True, check=False)
    if asked.returncode:
        return None
    version, *folders = asked.stdout.split("\n")
    return version, [folder for folder in folders if folder]


def unsupported(version: str) -> str | None:
    """Why this torch cannot be used, or None."""
    reason: str | None = runpy.run_path(str(Path(__file__).parent.parent / "efcn_kernels/versions.py"))["refused"](version)
    return reason


def make(folder: Path, requirement: list[str], python: str = sys.executable) -> str:
    """Make the environment and return one line that says which torch it has. Raises SystemExit with one where there is none."""
    if sys.version_info < OLDEST_PYTHON:
        raise SystemExit(f"efcn_kernels needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, and {python} is {sys.version.split()[0]}")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        raise SystemExit(f"{python} cannot make environments with pip (Debian, Ubuntu: apt install python3-venv)") from None
    venv.create(folder, with_pip=True, symlinks=True)
    own = folder.absolute() / "bin/python"
    link = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder)})) / LINK
    # of an earlier call
    link.unlink(missing_ok=True)
    said = ""
    if _usable(own) is None and (there := torch_of(python)) is not None:
        version, folders = there
        if (reason := unsupported(version)) is None:
            link.write_text("\n".join(folders) + "\n")
            said = f", that of {python}"
        else:
            print(f"not using the torch of {python}: {reason.partition(':')[0]}", flush=True)
    if _usable(own) is None:
        link.unlink(missing_ok=True)
        print(f"installing {' '.join(requirement)} into {folder}", flush=True)
        if subprocess.run([str(own), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirement], check=False).returncode:
            raise SystemExit(f"pip could not install {' '.join(requirement)}: see above; make TORCH=... installs another one")
        said = ""
    if (usable := _usable(own)) is None:
        raise SystemExit(
            f"{own} has no torch that efcn_kernels can use, after installing {' '.join(requirement)}: make TORCH=... installs another one"
        )
    return f"{folder} has torch {usable}{said}"


def _usable(python: Path) -> str | None:
    """The version of the torch that `python` imports, if it is supported."""
    there = torch_of(python)
    return there[0] if there is not None and unsupported(there[0]) is None else None


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    print(make(Path(sys.argv[1]), sys.argv[2:]))
