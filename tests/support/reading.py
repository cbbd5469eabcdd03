"""What a Python file imports and calls, by its syntax tree: for the tests of the architecture."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# attributes of torch.ops that are no namespaces
NO_NAMESPACE = {"load_library", "load_library_allowlist", "loaded_libraries", "import_module"}


def imports_of(path: Path) -> list[tuple[str, str]]:
    """(module below efcn_kernels or "", imported name or "") of every import statement, nested ones too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(a.name.removeprefix("efcn_kernels").lstrip("."), "") for a in node.names if a.name.split(".")[0] == "efcn_kernels"]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                above = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if path.is_relative_to(ROOT) else ()
                module = ".".join((*above, *([module] if module else [])))
            if module.split(".")[0] == "efcn_kernels":
                found += [(module.removeprefix("efcn_kernels").lstrip("."), a.name) for a in node.names]
    return found


def namespaces_of(path: Path) -> set[str]:
    """The operator namespaces that a file takes out of torch.ops; "?" where torch.ops is used in a way that cannot be followed."""
    tree = ast.parse(path.read_text())
    torches, ops = {"torch"}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            torches |= {a.asname for a in node.names if a.name == "torch" and a.asname}
            ops |= {a.asname for a in node.names if a.name in ("torch.ops", "torch._ops") and a.asname}
        elif isinstance(node, ast.ImportFrom) and node.module == "torch":
            ops |= {a.asname or a.name for a in node.names if a.name in ("ops", "_ops")}

    def is_ops(node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id in ops
        if isinstance(node, ast.Attribute) and node.attr in ("ops", "_ops"):
            return is_ops(node.value) or (isinstance(node.value, ast.Name) and node.value.id in torches)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1:
            name = node.args[1]
            return isinstance(name, ast.Constant) and name.value in ("ops", "_ops") and ast.unparse(node.args[0]) in torches
        return False

    found, followed = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("torch.ops", "torch._ops"):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.Attribute) and is_ops(node.value):
            found.add(node.attr)
            followed.add(node.value)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "getattr"
            and len(node.args) > 1
            and is_ops(node.args[0])
        ):
            name = node.args[1]
            found.add(str(name.value) if isinstance(name, ast.Constant) else "?")
            followed.add(node.args[0])
    # kept under another name, or handed on: what is called by it cannot be seen
    if any(is_ops(node) and node not in followed for node in ast.walk(tree) if not isinstance(getattr(node, "ctx", None), ast.Store)):
        found.add("?")
    return found - {"ops", "_ops"} - NO_NAMESPACE


def imports_from_tests(path: Path) -> list[str]:
    """What a test takes from others: everything of the package `tests` but tests.support."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found += [f"tests (relative).{node.module or a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            # of a package, what is imported may be a module
            found += [f"{node.module}.{a.name}" if node.module == "tests" else str(node.module) for a in node.names]
    return [name for name in found if name.split(".")[0].startswith("tests") and name.split(".")[:2] != ["tests", "support"]]
