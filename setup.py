"""Builds the compiled parts: the CPU and the CUDA kernels (two libraries on torch's stable ABI), and the torch-free work on indices.

Environment: EFCN_CUDA=1 builds the CUDA kernels, 0 does not, auto (the default) does where there is a toolkit and torch is a CUDA build;
EFCN_CUDA_ARCHS lists other chips than build_tools/cuda.py. EFCN_WERROR=1 makes warnings errors, EFCN_SANITIZE=1 adds the address and
undefined-behaviour sanitizers, MAX_JOBS bounds the compilers that run at once.
"""

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent

# isolated builds run this file from elsewhere
sys.path.insert(0, str(ROOT))
from build_tools import cuda, prerequisites  # noqa: E402

# the stable ABI of the oldest torch serves all later ones
TORCH_TARGET_VERSION = "0x{:02x}{:02x}000000000000".format(*prerequisites.VERSIONS["OLDEST_TORCH"])

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


def files(*patterns: str) -> list[str]:
    """Those below csrc, relative to the root as setuptools wants them."""
    return [str(path.relative_to(ROOT)) for pattern in patterns for path in sorted((ROOT / "csrc").glob(pattern))]


def component(folder: str, *shared: str) -> Extension:
    """The library of one folder of csrc: its C++ files that this platform compiles, and those of the shared folders."""
    skipped = ISA_FLAGS if platform.machine().lower() not in ("x86_64", "amd64") else {}
    sources = [name for name in files(*(f"{part}/*.cpp" for part in (folder, *shared))) if Path(name).name not in skipped]
    depends = files(*(f"{part}/{kind}" for part in (folder, *shared) for kind in ("*.h", "*.cu")))
    return Extension(f"efcn_kernels._{folder}", sources, depends=depends, language="c++")


def jobs() -> int:
    """How many compilers may run at once."""
    return int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))


class BuildExt(build_ext):
    """Compiles each file with its own flags, several at once; nothing is resolved before the command really runs."""

    def run(self) -> None:
        """Checks all that a build needs before it compiles anything; leaves the CUDA kernels out where they are not to be built."""
        prerequisites.check_compiler()
        self.pybind11, self.torch = prerequisites.find_pybind11(), prerequisites.find_torch(prerequisites.torch_folders())
        self.cuda = cuda.chosen(self.torch)
        print(f"efcn_kernels: {self.cuda}", flush=True)
        if self.cuda.toolkit is None:
            self.extensions = [ext for ext in self.extensions if not ext.name.endswith("_cuda")]
        super().run()

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
        if ext.name.endswith(("_cpu", "_cuda")):
            torch = self.torch
            print(f"efcn_kernels: {ext.name} against the headers of {torch}", flush=True)
            # -isystem: warnings in torch's headers are not ours
            ext.extra_compile_args += [f"-isystem{torch / 'include'}", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]
            ext.library_dirs.append(str(torch / "lib"))
            ext.libraries.append("torch_cpu")
            if ext.name.endswith("_cuda"):
                self.add_cuda(ext, torch)
        else:
            ext.extra_compile_args.append(f"-isystem{self.pybind11}")
        with ThreadPoolExecutor(jobs()) as pool:
            self.compiler.compile = self.in_parallel(pool, self.compiler.compile)
            super().build_extension(ext)
            del self.compiler.compile

    def add_cuda(self, ext: Extension, torch: Path) -> None:
        """The .cu files' objects, and what they link with."""
        options = [*cuda.targets(os.environ.get("EFCN_CUDA_ARCHS")), *(cuda.WARNINGS_ARE_ERRORS if on("EFCN_WERROR") else ())]
        sources, headers = ([Path(name) for name in files(f"cuda/{kind}")] for kind in ("*.cu", "*.h"))
        ext.extra_objects = cuda.compile_all(self.cuda.toolkit, sources, headers, Path(self.build_temp) / "csrc/cuda", jobs(), options)
        ext.depends += ext.extra_objects
        # libtorch needs libtorch_cuda where torch has one; a CPU-only torch leaves its symbols to the machine that loads the library
        library = ["-ltorch_cuda"] if (torch / "lib/libtorch_cuda.so").is_file() else []
        ext.extra_link_args += [*self.cuda.toolkit.link_flags, "-Wl,--no-as-needed", "-ltorch", *library]

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
    ext_modules=[component("cpu", "common"), component("cuda", "common"), component("csr")],
    cmdclass={"build_ext": BuildExt},
)
