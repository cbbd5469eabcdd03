"""The shape of the package: import order, what it needs to be imported, public names, sizes and docstrings."""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import efcn_kernels
from tests.support.reading import ROOT, imports_from_tests, imports_of, namespaces_of

PACKAGE = ROOT / "efcn_kernels"
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))

# imports only go left; rooms of one group may not import each other, files of one room may
ORDER = [
    {"extras", "versions"},
    {"pattern"},
    {"ops"},
    {"cost"},
    {"nn"},
    {"mapping"},
    {"analysis"},
    {"verify"},
    {"bench"},
    {"study"},
    {"cli"},
    {"__main__"},
]
# inside a function, so that nothing is imported before it is called: a layout says what it costs
LATE = {("pattern/layout.py", "cost")}
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def part_of(path: Path) -> str:
    """The top-level module or package that a file belongs to; "" for the root."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def test_every_part_has_its_place() -> None:
    unplaced = {part_of(p) for p in MODULES} - set(RANK) - {""}
    assert not unplaced, f"put {sorted(unplaced)} into ORDER"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_left(path: Path) -> None:
    own = part_of(path)
    if own == "":
        return
    for module, name in imports_of(path):
        target = module.split(".")[0] or name
        if target == "__version__":
            continue
        if target not in RANK:
            assert RANK[own] > RANK["mapping"], f"{path.name} imports {name!r} from the package's root"
            continue
        if (str(path.relative_to(PACKAGE)), target) in LATE:
            continue
        assert target == own or RANK[target] < RANK[own], f"{own} must not import {target}"


def test_the_check_of_the_order_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "def f():\n    from efcn_kernels.nn import EFCNLinear\nimport efcn_kernels.cli\nfrom efcn_kernels import pattern, torch\nimport os\n"
    )
    assert sorted(imports_of(file)) == [("", "pattern"), ("", "torch"), ("cli", ""), ("nn", "EFCNLinear")]


def test_one_style_of_imports() -> None:
    """Absolute, with annotations that are not evaluated, and nothing from outside of the wheel."""
    for path in MODULES:
        tree = ast.parse(path.read_text())
        statements = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in statements if node.level], path
        assert not [node.module for node in statements if (node.module or "").split(".")[0] in ("benchmarks", "tests", "build_tools")], path
        code = [node for node in tree.body if not isinstance(node, ast.Expr)]
        assert not code or any(node.module == "__future__" for node in statements), path


def test_kernels_know_no_cnn_and_layers_no_kernels() -> None:
    for path in MODULES:
        targets = {module for module, _ in imports_of(path)}
        if part_of(path) == "ops":
            assert not targets & {"pattern.geometry", "pattern.sharing"}, path.name
        if part_of(path) in ("pattern", "nn", "mapping"):
            assert not [t for t in targets if t.startswith("ops.backends")], f"{path.name} reaches into a backend"


# a registered namespace of operators is called where it belongs and nowhere else: files, or whole folders, below the package
OPERATORS = {
    "efcn_cpu": ("ops/backends/cpu.py",),
    "efcn_cuda": ("ops/backends/cuda.py",),
    # the benchmark of a step times the passes
    "efcn": ("ops/", "bench/step.py"),
}


def is_at_home(file: str, namespace: str) -> bool:
    """Whether a file of the package, by its path there, may take this namespace out of torch.ops; those of torch itself may all."""
    return namespace != "?" and (namespace not in OPERATORS or file.startswith(OPERATORS[namespace]))


def test_operators_are_called_where_they_belong() -> None:
    files = {path: str(path.relative_to(PACKAGE)) for path in MODULES}
    strays = [f"{file}: torch.ops.{name}" for path, file in files.items() for name in namespaces_of(path) if not is_at_home(file, name)]
    assert not strays
    seen = {name for path in MODULES for name in namespaces_of(path)}
    assert set(OPERATORS) <= seen, "a namespace that nobody calls: is this test blind?"


@pytest.mark.parametrize(
    ("code", "namespaces"),
    [
        ("import torch\ntorch.ops.efcn_cpu.isa()", {"efcn_cpu"}),
        ("import torch as t\nt.ops.efcn_cpu.isa()", {"efcn_cpu"}),
        ("from torch import ops\nops.efcn_cuda.bsr_linear", {"efcn_cuda"}),
        ("from torch import ops as o\no.efcn", {"efcn"}),
        ("import torch.ops as o\no.efcn", {"efcn"}),
        ("from torch.ops import efcn_cpu", {"efcn_cpu"}),
        ("import torch\ngetattr(torch.ops, 'efcn_cpu').isa()", {"efcn_cpu"}),
        ("import torch\ngetattr(torch, 'ops').efcn", {"efcn"}),
        ("import torch\ntorch._ops.ops.efcn", {"efcn"}),
        ("import torch\ndef f(n):\n    return getattr(torch.ops, n)", {"?"}),
        ("import torch\nkept = torch.ops\nkept.efcn_cpu", {"?"}),
        ("import torch\nf(torch.ops)", {"?"}),
        ("import torch\ntorch.ops.load_library('a'); torch.ops.aten.add", {"aten"}),
        ("from efcn_kernels import ops\nops.efcn\nself.ops.efcn", set()),
    ],
)
def test_the_check_of_operators_can_fail(code: str, namespaces: set[str], tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(code)
    assert namespaces_of(file) == namespaces
    homes = [name for name in namespaces if is_at_home("nn/linear.py", name)]
    assert homes == [name for name in namespaces if name == "aten"]
    assert is_at_home("ops/backends/cpu.py", "efcn_cpu")
    assert not is_at_home("ops/max_pool.py", "efcn_cpu")


def test_helpers_are_not_imported_from_tests() -> None:
    """They are in tests/support, which no test module is imported from either."""
    files = sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))
    assert not {str(path.relative_to(ROOT)): found for path in files if (found := imports_from_tests(path))}


def test_the_check_of_helpers_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "from tests.ops.test_kernels import check\nimport tests.conftest\nfrom tests import ops\nfrom . import b\nfrom .c import d\n"
        "from tests.support.judge import check\nfrom tests import support\nimport torch\n"
    )
    assert imports_from_tests(file) == ["tests.ops.test_kernels", "tests.conftest", "tests.ops", "tests (relative).b", "tests (relative).c"]


PUBLIC: dict[str, list[str]] = {
    "EFCNLinear": ["from_conv", "from_linear", "from_dense", "to_dense", "to_bsr"],
    "LocallyConnected": ["in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "input_size", "output_size"],
    "LocallyConnected1d": ["from_conv", "to_conv", "from_lc", "to_lc"],
    "LocallyConnected2d": ["from_conv", "to_conv", "from_lc", "to_lc"],
    "LocallyConnected3d": ["from_conv", "to_conv", "from_lc", "to_lc"],
    "BlockLayout": ["from_conv", "from_mask", "from_block_mask", "from_predicate", "full", "density", "nnz", "to_bsr_indices"],
    "ConvGeometry": ["of", "make", "output_size"],
    "EFCNSGD": ["step", "zero_grad", "state_dict", "load_state_dict"],
    "cnn_to_efcn": [],
    "efcn_to_cnn": [],
    "verify_equivalence": [],
    "bsr_linear": [],
    "batch_last": [],
    "build_info": [],
}


def test_public_names() -> None:
    assert set(efcn_kernels.__all__) >= set(PUBLIC)
    for name in efcn_kernels.__all__:
        assert hasattr(efcn_kernels, name)
    for name, members in PUBLIC.items():
        thing = getattr(efcn_kernels, name)
        known = {*dir(thing), *getattr(thing, "__dataclass_fields__", {})}
        assert not set(members) - known, name


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (efcn_kernels.EFCNLinear, ["in_features", "out_features", "layout", "bias", "device", "dtype"]),
        (efcn_kernels.EFCNLinear.from_conv, ["conv", "input_size", "support"]),
        (efcn_kernels.EFCNLinear.from_linear, ["linear", "layout"]),
        (efcn_kernels.EFCNLinear.from_dense, ["weight", "layout"]),
        (
            efcn_kernels.LocallyConnected2d,
            ["in_channels", "out_channels", "input_size", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"],
        ),
        (efcn_kernels.LocallyConnected2d.from_conv, ["conv", "input_size"]),
        (efcn_kernels.EFCNSGD, ["params", "lr", "momentum", "weight_decay", "nesterov", "fused"]),
        (efcn_kernels.cnn_to_efcn, ["model", "example_input", "support"]),
        (efcn_kernels.efcn_to_cnn, ["model"]),
        (efcn_kernels.verify_equivalence, ["cnn", "efcn", "x"]),
        (efcn_kernels.BlockLayout.from_conv, ["geometry", "halo"]),
        (efcn_kernels.BlockLayout.from_mask, ["mask", "block"]),
        (efcn_kernels.BlockLayout.from_block_mask, ["mask", "block"]),
        (efcn_kernels.BlockLayout.from_predicate, ["fn"]),
        (efcn_kernels.bsr_linear, ["x", "values", "layout", "bias", "backend"]),
        (efcn_kernels.batch_last, ["x"]),
    ],
)
def test_signatures(function: Any, parameters: list[str]) -> None:
    """The names that users write; more parameters may follow them."""
    assert list(inspect.signature(function).parameters)[: len(parameters)] == parameters


def run(code: str, path: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EFCN_")} | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, cwd=path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"triton", "scipy", "matplotlib", "hypothesis", "pytest", "safetensors", "pydantic", "typer", "rich"}:
            raise ModuleNotFoundError(f"{name} is hidden")

# an editable install would find the parts that this copy lacks
sys.meta_path = [Blocked(), *(f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__"))]
import torch
import efcn_kernels as e

conv, x = torch.nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 2, 5, 5)
torch.testing.assert_close(e.LocallyConnected2d.from_conv(conv, 5)(x), conv(x))
info = e.build_info()
print(e.__file__.startswith(sys.argv[1]) if len(sys.argv) > 1 else e.__file__)
print(info["backends"]["cpu"])
print(info["backends"]["reference"], info["isa"], info["isas"])
print(info["csr"])
try:
    e.bsr_linear(x.flatten(2), torch.zeros(1, 1, 25), e.BlockLayout.full(1, 2, (1, 25)), backend="cpu")
except (RuntimeError, ValueError) as error:
    print(type(error).__name__)
"""


def copied(to: Path) -> Path:
    """The package without its compiled parts."""
    shutil.copytree(PACKAGE, to / "efcn_kernels", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return to


def test_without_compiled_parts(tmp_path: Path) -> None:
    file, cpu, rest, csr = run(WITHOUT, copied(tmp_path)).splitlines()[:4]
    assert file.startswith(str(tmp_path))
    assert "not built" in cpu
    assert rest == "available None []"
    assert "missing" in csr


def test_with_broken_compiled_parts(tmp_path: Path) -> None:
    """A library of another machine or a truncated file falls through with its reason."""
    copied(tmp_path)
    for name in ("_cpu", "_csr"):
        suffix = "so" if name == "_cpu" else f"cpython-{sys.version_info.major}{sys.version_info.minor}-{os.uname().machine}-linux-gnu.so"
        (tmp_path / "efcn_kernels" / f"{name}.{suffix}").write_bytes(b"no library at all")
    _, cpu, rest, csr = run(WITHOUT, tmp_path).splitlines()[:4]
    assert "does not load" in cpu
    assert rest.startswith("available None")
    assert "missing" in csr


def test_importing_is_quiet_and_light() -> None:
    """Nothing is printed; neither the command line, nor plots, nor data sets, nor the compiler of torch.compile come along."""
    code = "import torch, sys; before = set(sys.modules); import efcn_kernels; print(sorted(m for m in set(sys.modules) - before))"
    extra = ast.literal_eval(run(code, ROOT))
    command_line, study = ("typer", "click", "rich"), ("matplotlib", "pydantic", "scipy", "safetensors", "pooch", "jinja2", "PIL")
    rooms = ("efcn_kernels.study", "efcn_kernels.cli", "efcn_kernels.bench", "efcn_kernels.verify", "efcn_kernels.analysis")
    heavy = ("triton", "torch._inductor", "torchvision", "pytest", *command_line, *study, *rooms)
    assert not [m for m in extra if m.startswith(heavy)]


def sources() -> list[Path]:
    kinds = ("*.py", "*.cpp", "*.h", "*.cu", "*.cuh")
    folders = [PACKAGE, ROOT / "tests", ROOT / "csrc", ROOT / "benchmarks", ROOT / "examples"]
    return sorted(p for folder in folders if folder.is_dir() for kind in kinds for p in folder.rglob(kind))


def test_files_are_small() -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text().splitlines())) > 350}
    assert not long
    assert median(len(p.read_text().splitlines()) for p in MODULES) < 150


def undocumented(path: Path) -> list[str]:
    """The module, public classes and public functions without a docstring."""
    tree = ast.parse(path.read_text())
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return missing + [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_things_have_docstrings(path: Path) -> None:
    assert not undocumented(path)
