"""Whether the CUDA library is built, and how: the toolkit, the choice, nvcc on each .cu file. No GPU is asked, and torch is not imported.

`python -m build_tools.cuda` names the toolkit, or leaves with code 1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HEADER = "include/cuda_runtime.h"
USUAL = Path("/usr/local/cuda")
# machine code for Ampere and for Hopper with its own instructions, and PTX, which drivers translate for all later ones
ARCHS = ("sm_80", "sm_90a", "compute_80")
FLAGS = ("-std=c++17", "-O3", "-Xptxas", "-v", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-psabi")
WARNINGS_ARE_ERRORS = ("-Werror", "all-warnings", "-Xcompiler", "-Werror")
REPORT = ".ptxas.txt"


class Toolkit(NamedTuple):
    """CUDA's folder and version, such as 13.0."""

    home: Path
    version: str

    @property
    def nvcc(self) -> str:
        """The compiler of this folder, which may be another one than that on the PATH."""
        return str(self.home / "bin/nvcc")

    @property
    def link_flags(self) -> list[str]:
        """The runtime goes into the library: torch may be built for another version of CUDA, or for none."""
        found = [folder for folder in ("lib64", "lib", "targets/x86_64-linux/lib") if (self.home / folder / "libcudart_static.a").is_file()]
        return [f"-L{self.home / (found or ['lib64'])[0]}", "-lcudart_static", "-Wl,--exclude-libs,libcudart_static.a", "-ldl", "-lrt", "-lpthread"]


class Choice(NamedTuple):
    """The toolkit to build with, or None, and why."""

    toolkit: Toolkit | None
    why: str

    def __str__(self) -> str:
        if self.toolkit is None:
            return f"no CUDA kernels: {self.why}"
        return f"CUDA kernels with the toolkit {self.toolkit.version} of {self.toolkit.home}: {self.why}"


def find_toolkit(environment: Mapping[str, str], nvcc: str | None, usual: Path = USUAL) -> Toolkit | str:
    """The first folder that has the headers and the compiler, or where they were looked for. nvcc: the one on the PATH, maybe only a wrapper."""
    folders = [Path(environment[name]) for name in ("CUDA_HOME", "CUDA_PATH") if environment.get(name)]
    if nvcc is not None:
        folders += [Path(nvcc).parent.parent, Path(nvcc).resolve().parent.parent]
    folders = list(dict.fromkeys([*folders, usual]))
    for home in folders:
        if (home / HEADER).is_file() and (home / "bin/nvcc").is_file():
            return Toolkit(home, _version(home))
    return f"looked for {HEADER} and bin/nvcc in {', '.join(map(str, folders))}"


def _version(home: Path) -> str:
    header = home / "include/cuda.h"
    found = re.search(r"#define CUDA_VERSION (\d+)", header.read_text(errors="replace")) if header.is_file() else None
    return f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}" if found else "unknown"


def cuda_of_torch(torch: Path) -> str | None:
    """The version of CUDA that the torch in this folder was built for, None where it was built for CPUs only (or for ROCm)."""
    found = re.search(r"^cuda\b[^=\n]*= *['\"]([\d.]+)['\"]", (torch / "version.py").read_text(), re.MULTILINE)
    return found[1] if found else None


def choose(wanted: str, toolkit: Toolkit | str, torch_cuda: str | None) -> Choice:
    """Whether to build. wanted: EFCN_CUDA; toolkit: as find_toolkit says; torch_cuda: as cuda_of_torch says.

    Raises SystemExit where what is wanted cannot be or means nothing.
    """
    if wanted not in ("0", "1", "auto"):
        raise SystemExit(f"EFCN_CUDA must be 1 (build the CUDA kernels), 0 (do not) or auto, got {wanted!r}")
    if wanted == "0":
        return Choice(None, "EFCN_CUDA=0")
    if isinstance(toolkit, str):
        if wanted == "1":
            raise SystemExit(f"EFCN_CUDA=1 needs a CUDA toolkit, and there is none ({toolkit}): set CUDA_HOME to its folder, or EFCN_CUDA=0")
        return Choice(None, f"there is no CUDA toolkit ({toolkit})")
    if torch_cuda is None:
        if wanted == "1":
            return Choice(toolkit, "EFCN_CUDA=1; torch is a CPU-only build, with which they cannot be loaded")
        return Choice(None, f"torch is a CPU-only build (EFCN_CUDA=1 builds them nevertheless, with {toolkit.home})")
    other = "" if toolkit.version.split(".")[0] == torch_cuda.split(".")[0] else "; warning: the toolkit is of another major version than torch's"
    return Choice(toolkit, f"{'EFCN_CUDA=1' if wanted == '1' else 'EFCN_CUDA=auto'}, torch is built for CUDA {torch_cuda}{other}")


def chosen(torch: Path, environment: Mapping[str, str] = os.environ) -> Choice:
    """The choice on this machine, for the torch in this folder."""
    return choose(environment.get("EFCN_CUDA") or "auto", find_toolkit(environment, shutil.which("nvcc")), cuda_of_torch(torch))


def targets(archs: str | None) -> list[str]:
    """nvcc's flags for EFCN_CUDA_ARCHS (names with commas between them), None or "": for ARCHS. Raises SystemExit for what is no such name."""
    names = archs.split(",") if archs else ARCHS
    if wrong := [name for name in names if not re.fullmatch(r"(sm|compute)_\d+[af]?", name)]:
        raise SystemExit(f"EFCN_CUDA_ARCHS lists machine code (sm_90a) and PTX (compute_80) like {','.join(ARCHS)}, got {wrong[0]!r}")
    return [f"-gencode=arch={name.replace('sm', 'compute')},code={name}" for name in names]


def compile_all(toolkit: Toolkit, sources: Sequence[Path], headers: Sequence[Path], folder: Path, jobs: int, options: Sequence[str]) -> list[str]:
    """The object of each source, compiled where it is older than what it is made of, several at once.

    The compiler's report on registers and spills stays beside each object, under the command that made both. Raises SystemExit with the compiler's
    words where it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"*{REPORT}"):
        if old.name.removesuffix(REPORT) not in {source.stem for source in sources}:
            old.unlink()

    def compile_one(source: Path) -> str:
        made, report = folder / f"{source.stem}.o", folder / f"{source.stem}{REPORT}"
        command = [toolkit.nvcc, *FLAGS, *options, "-c", str(source), "-o", str(made)]
        if not _fresh([made, report], [source, *headers]) or report.read_text().partition("\n")[0] != " ".join(command):
            report.unlink(missing_ok=True)
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if said := [line for line in done.stdout.splitlines() if not re.match(r"ptxas info|\s+\d+ bytes stack frame|\s*$", line)]:
                print("\n".join(said), flush=True)
            if done.returncode:
                raise SystemExit(f"efcn_kernels: nvcc failed on {source} with code {done.returncode}, see above")
            report.write_text(" ".join(command) + "\n" + done.stdout)
        return str(made)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(compile_one, sources))


def _fresh(made: Sequence[Path], of: Sequence[Path]) -> bool:
    return all(path.is_file() for path in made) and min(p.stat().st_mtime for p in made) >= max(p.stat().st_mtime for p in of)


if __name__ == "__main__":
    there = find_toolkit(os.environ, shutil.which("nvcc"))
    print(there if isinstance(there, str) else f"CUDA toolkit {there.version} at {there.home}")
    sys.exit(isinstance(there, str))
