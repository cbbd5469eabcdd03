"""Builds the compiled parts: the CPU kernels (one shared library on torch's stable ABI) and the torch-free planner.

Environment: EFCN_WERROR=1 makes warnings errors, EFCN_SANITIZE=1 adds the address and undefined-behaviour sanitizers, MAX_JOBS bounds
the compilers that run at once.
"""

import importlib.util
import os
import platform
import re
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent

# the stable ABI of the oldest serves all of them; pyproject.toml names the same range
OLDEST_TORCH, NEWEST_TORCH = (2, 11), (2, 13)
TORCH_TARGET_VERSION = "0x020b000000000000"

AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]

# files compiled for more than the platform's baseline; dispatch.cpp decides at run time which of them may be called
ISA_FLAGS = {
    "isa_avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    "isa_avx512.cpp": AVX512,
    "isa_avx512_bf16.cpp": [*AVX512, "-mavx512bf16"],
    "isa_amx.cpp": [*AVX512, "-mamx-tile", "-mamx-bf16"],
}

COMPILE_FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-ffp-contract=fast",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wno-psabi",
]


def on(name: str) -> bool:
    """Whether the switch is set to anything but nothing or 0."""
    return os.environ.get(name, "0") not in ("", "0")


def find_torch() -> Path:
    """The folder of the torch package to compile against: the importable one, else (isolated builds) that of the target environment."""
    candidates = []
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent)
    candidates += [Path(sysconfig.get_path(kind)) / "torch" for kind in ("purelib", "platlib")]
    # an isolated build runs with the environment's own interpreter but replaces the paths that sysconfig reports
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates += [Path(sys.prefix) / "lib" / version / "site-packages" / "torch"]
    found = []
    for candidate in dict.fromkeys(candidates):
        if not (candidate / "include" / "torch" / "csrc" / "stable" / "library.h").is_file():
            continue
        version_text = (candidate / "version.py").read_text()
        major, minor = re.search(r"__version__ = ['\"](\d+)\.(\d+)", version_text).groups()
        if OLDEST_TORCH <= (int(major), int(minor)) <= NEWEST_TORCH:
            return candidate
        found.append(f"{major}.{minor} at {candidate}")
    looked = ", ".join(found) or "looked at: " + ", ".join(str(candidate) for candidate in dict.fromkeys(candidates))
    raise SystemExit(
        "efcn_kernels compiles against the torch that it will run with, and found none of version 2.11 to 2.13 ("
        f"{looked}). Run `pip install 'torch>=2.11,<2.14'` first (a CPU build suffices), then install efcn_kernels again."
    )


def sources(folder: str) -> list[str]:
    """All C++ files of one component that this platform compiles, relative to the root as setuptools wants them."""
    skipped = ISA_FLAGS if platform.machine().lower() not in ("x86_64", "amd64") else {}
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc" / folder).glob("*.cpp")) if path.name not in skipped]


class BuildExt(build_ext):
    """Compiles each file with its own flags, several at once; nothing is resolved before the command really runs."""

    def build_extension(self, ext: Extension) -> None:
        """Fills in the paths that only a real build needs."""
        ext.extra_compile_args = [*COMPILE_FLAGS, *ext.extra_compile_args]
        ext.extra_link_args = ["-s", *ext.extra_link_args]
        if on("EFCN_WERROR"):
            ext.extra_compile_args.append("-Werror")
        if on("EFCN_SANITIZE"):
            sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]
            ext.extra_compile_args += sanitize
            ext.extra_link_args = sanitize
        if ext.name.endswith("_cpu"):
            torch = find_torch()
            print(f"efcn_kernels: CPU kernels against the headers of {torch}", flush=True)
            # -isystem: warnings in torch's headers are not ours
            ext.extra_compile_args += [f"-isystem{torch / 'include'}", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]
            ext.library_dirs.append(str(torch / "lib"))
            ext.libraries.append("torch_cpu")
        else:
            if importlib.util.find_spec("pybind11") is None:
                raise SystemExit("efcn_kernels builds its planner with pybind11, which is not installed: run `pip install pybind11` first")
            import pybind11

            ext.extra_compile_args.append(f"-isystem{pybind11.get_include()}")
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            self.compiler.compile = self.in_parallel(pool, self.compiler.compile)
            super().build_extension(ext)
            del self.compiler.compile

    @staticmethod
    def in_parallel(pool, compile_files):
        """The compiler's `compile`, called once per file so that each gets its flags."""

        def compile_all(files, *args, extra_postargs=None, **kwargs):
            def compile_one(file):
                flags = [*(extra_postargs or []), *ISA_FLAGS.get(Path(file).name, [])]
                return compile_files([file], *args, extra_postargs=flags, **kwargs)

            return [name for names in pool.map(compile_one, files) for name in names]

        return compile_all


setup(
    ext_modules=[
        Extension("efcn_kernels._cpu", sources("cpu"), depends=[str(p) for p in Path("csrc/cpu").glob("*.h")], language="c++"),
        Extension("efcn_kernels._planner", sources("planner"), depends=["csrc/planner/csr.h"], language="c++"),
    ],
    cmdclass={"build_ext": BuildExt},
)
