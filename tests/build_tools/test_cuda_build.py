"""Whether the CUDA library is built, by which compiler and for which chips, and what the compiler reports; none of it needs a compiler."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from build_tools import cuda, ptxas
from build_tools.cuda import ARCHS, Choice, Toolkit, choose, compile_all, cuda_of_torch, find_toolkit, targets

ROOT = Path(__file__).parents[2]
TOOLKIT = Toolkit(Path("/opt/cuda"), "13.0")
NOWHERE = "looked for include/cuda_runtime.h and bin/nvcc in /usr/local/cuda"


def a_toolkit(home: Path, compiler: str = "", version: int = 13000) -> Path:
    """A folder that looks like CUDA's."""
    for folder in ("include", "bin", "lib64"):
        (home / folder).mkdir(parents=True)
    (home / cuda.HEADER).touch()
    (home / "include/cuda.h").write_text(f"/* */\n#define CUDA_VERSION {version}\n")
    (home / "bin/nvcc").write_text(f"#!/bin/sh\n{compiler}\n")
    (home / "bin/nvcc").chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("wanted", "toolkit", "torch", "built", "why"),
    [
        ("0", TOOLKIT, "13.0", False, "EFCN_CUDA=0"),
        ("1", TOOLKIT, "13.0", True, "EFCN_CUDA=1, torch is built for CUDA 13.0"),
        ("1", TOOLKIT, None, True, "torch is a CPU-only build, with which they cannot be loaded"),
        ("auto", TOOLKIT, "13.2", True, "EFCN_CUDA=auto, torch is built for CUDA 13.2"),
        ("auto", TOOLKIT, "12.8", True, "warning: the toolkit is of another major version than torch's"),
        ("auto", TOOLKIT, None, False, "torch is a CPU-only build"),
        ("auto", NOWHERE, "13.0", False, f"there is no CUDA toolkit ({NOWHERE})"),
        ("0", NOWHERE, None, False, "EFCN_CUDA=0"),
    ],
)
def test_the_choice_and_its_reason(wanted: str, toolkit: Toolkit | str, torch: str | None, built: bool, why: str) -> None:
    choice = choose(wanted, toolkit, torch)
    assert (choice.toolkit is not None) == built
    assert why in choice.why
    assert ("warning" in choice.why) == ("warning" in why)
    assert str(choice).startswith("CUDA kernels with the toolkit 13.0 of /opt/cuda: " if built else "no CUDA kernels: ")


@pytest.mark.parametrize(
    ("wanted", "says"), [("1", r"EFCN_CUDA=1 needs a CUDA toolkit.*looked for include/cuda_runtime\.h.*CUDA_HOME"), ("yes", "got 'yes'")]
)
def test_what_cannot_be_is_refused(wanted: str, says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        choose(wanted, NOWHERE, None)


def test_the_toolkit_is_where_the_header_is(tmp_path: Path) -> None:
    """A compiler on the PATH may be a script that calls another one, in a folder without headers."""
    home, usual = a_toolkit(tmp_path / "cuda-12.8", version=12080), a_toolkit(tmp_path / "cuda")
    wrapper = tmp_path / "usr/bin/nvcc"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text("#!/bin/sh\n")
    assert find_toolkit({}, str(wrapper), usual) == Toolkit(usual, "13.0")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        assert find_toolkit({variable: str(home)}, str(wrapper), usual) == Toolkit(home, "12.8")
    assert find_toolkit({"CUDA_HOME": str(tmp_path)}, str(home / "bin/nvcc"), usual) == Toolkit(home, "12.8")
    link = tmp_path / "usr/bin/linked"
    link.symlink_to(home / "bin/nvcc")
    assert find_toolkit({}, str(link), usual) == Toolkit(home, "12.8")
    (usual / "bin/nvcc").unlink()
    assert find_toolkit({"CUDA_HOME": ""}, None, usual) == f"looked for {cuda.HEADER} and bin/nvcc in {usual}"


def test_the_runtime_is_linked_into_the_library(tmp_path: Path) -> None:
    toolkit = Toolkit(a_toolkit(tmp_path), "13.0")
    (tmp_path / "lib64/libcudart_static.a").touch()
    assert f"-L{tmp_path / 'lib64'}" in toolkit.link_flags
    assert "-lcudart_static" in toolkit.link_flags


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"),
        ("cuda = '12.8'\n", "12.8"),
        ("cuda: Optional[str] = None\n", None),
        ("cuda = None\nhip = '6.4'\n", None),
        ("# cuda = '13.0'\n", None),
    ],
)
def test_what_torch_was_built_for(tmp_path: Path, text: str, found: str | None) -> None:
    (tmp_path / "version.py").write_text("__version__ = '2.11.0'\n" + text)
    assert cuda_of_torch(tmp_path) == found


def test_the_variable_decides(tmp_path: Path) -> None:
    (tmp_path / "version.py").write_text("cuda = None\n")
    home = a_toolkit(tmp_path / "cuda")
    assert cuda.chosen(tmp_path, {"EFCN_CUDA": "1", "CUDA_HOME": str(home)}).toolkit == Toolkit(home, "13.0")
    for environment in ({"EFCN_CUDA": "0"}, {"EFCN_CUDA": ""}, {}):
        assert cuda.chosen(tmp_path, {**environment, "CUDA_HOME": str(home)}).toolkit is None
    assert Choice(None, "so").toolkit is None


def test_chips() -> None:
    assert targets(None) == targets("") == targets(",".join(ARCHS))
    assert targets("sm_90a,compute_80") == ["-gencode=arch=compute_90a,code=sm_90a", "-gencode=arch=compute_80,code=compute_80"]
    with pytest.raises(SystemExit, match=r"got '9\.0'"):
        targets("sm_80,9.0")


def test_only_what_changed_is_compiled_and_reports_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    compiler = 'for last; do :; done; echo "$last" >>"$0.log"; echo "ptxas info    : Used 8 registers"; echo "a.cu: warning"; : >"$last"'
    toolkit = Toolkit(a_toolkit(tmp_path / "cuda", compiler), "13.0")
    sources, header, folder = [tmp_path / "a.cu", tmp_path / "b.cu"], tmp_path / "k.h", tmp_path / "build"
    for path in (*sources, header):
        path.touch()
    log = tmp_path / "cuda/bin/nvcc.log"

    def build(*options: str) -> list[str]:
        """What was compiled."""
        log.write_text("")
        objects = compile_all(toolkit, sources, [header], folder, 1, options)
        assert objects == [str(folder / f"{source.stem}.o") for source in sources]
        for source in sources:
            assert "Used 8 registers" in (folder / f"{source.stem}{cuda.REPORT}").read_text()
        return [Path(line).name for line in log.read_text().splitlines()]

    def touch(path: Path) -> None:
        later = (folder / f"a{cuda.REPORT}").stat().st_mtime + 10
        os.utime(path, (later, later))

    assert build() == ["a.o", "b.o"]
    assert capfd.readouterr().out == "a.cu: warning\n" * 2, "nothing but what is wrong is shown"
    assert build() == []
    assert build("-O1") == ["a.o", "b.o"]
    touch(sources[1])
    assert build("-O1") == ["b.o"]
    del sources[0]
    assert build("-O1") == ["b.o"]
    assert not (folder / f"a{cuda.REPORT}").exists(), "the report of a file that is gone is gone"


def test_a_compiler_that_fails_ends_the_build(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toolkit = Toolkit(a_toolkit(tmp_path / "cuda", "echo 'a.cu(1): error: no such thing' >&2; exit 2"), "13.0")
    (tmp_path / "a.cu").touch()
    with pytest.raises(SystemExit, match=r"nvcc failed on .*a\.cu with code 2"):
        compile_all(toolkit, [tmp_path / "a.cu"], [], tmp_path / "build", 1, [])
    assert "no such thing" in capfd.readouterr().out
    assert not list((tmp_path / "build").iterdir())


SAMPLE = """nvcc -c a.cu -o a.o
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4goodv' for 'sm_80'
ptxas info    : Function properties for _Z4goodv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 159 registers, used 1 barriers, 520 bytes cmem[0]
ptxas info    : Compiling entry function '_Z3badv' for 'sm_90a'
ptxas info    : Function properties for _Z3badv
    24 bytes stack frame, 20 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 24 bytes cumulative stack size, 520 bytes cmem[0]
"""


def test_the_report_is_read() -> None:
    assert ptxas.kernels(SAMPLE) == [("_Z4goodv", "sm_80", 159, 0, 0), ("_Z3badv", "sm_90a", 255, 24, 48)]
    assert ptxas.spilling(SAMPLE) == ["_Z3badv for sm_90a: 48 bytes spilled, 255 registers"]
    assert ptxas.kernels("nothing") == []
    with pytest.raises(ValueError, match="without name, stack or registers"):
        ptxas.kernels(SAMPLE.replace("Used 255", "Used many"))


def test_reports_of_older_sources_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "csrc/cuda"
    folder.mkdir(parents=True)
    (tmp_path / "build/temp").mkdir(parents=True)
    names = {folder / "a.cu": 1, folder / "b.cu": 5, folder / "k.h": 2}
    names |= {tmp_path / f"build/temp/{stem}{cuda.REPORT}": 3 for stem in ("a", "b", "gone")}
    for path, time in names.items():
        path.touch()
        os.utime(path, (time, time))
    assert [path.name for path in ptxas.reports(tmp_path)] == [f"a{cuda.REPORT}"]


def test_no_kernel_spills() -> None:
    """Wherever the library was built from these sources: by `make cuda`, by `make lint`, for whatever chips."""
    reports = ptxas.reports(ROOT)
    if not reports:
        pytest.skip("the CUDA library was not built from these sources: make cuda, which needs nvcc")
    texts = [report.read_text() for report in reports]
    assert all(ptxas.kernels(text) for text in texts)
    assert [words for text in texts for words in ptxas.spilling(text)] == []


def test_sources_travel() -> None:
    """A source distribution holds whatever the build reads."""
    manifest = (ROOT / "MANIFEST.in").read_text()
    kinds = {path.suffix for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    found = re.search(r"^recursive-include csrc (.*)$", manifest, re.MULTILINE)
    assert found is not None
    assert {f"*{kind}" for kind in kinds} == set(found[1].split())
    assert "recursive-include build_tools *.py" in manifest
