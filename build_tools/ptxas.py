"""What the compiler reports of each kernel (-Xptxas -v): registers, stack and spills."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from build_tools.cuda import REPORT

_NAME = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


class Kernel(NamedTuple):
    """A kernel (its mangled name) on a chip, such as sm_80: registers of a thread, bytes of its stack, bytes that find no register."""

    name: str
    chip: str
    registers: int
    stack: int
    spilled: int


def kernels(report: str) -> list[Kernel]:
    """Every kernel of a report, in its order. Raises ValueError where there is less than a whole record."""
    found = []
    for record in report.split("Compiling entry function")[1:]:
        name, stack, used = _NAME.search("Compiling entry function" + record), _STACK.search(record), _USED.search(record)
        if name is None or stack is None or used is None:
            raise ValueError(f"the compiler's report has a record without name, stack or registers: {record[:200]!r}")
        found.append(Kernel(name[1], name[2], int(used[1]), int(stack[1]), int(stack[2]) + int(stack[3])))
    return found


def spilling(report: str) -> list[str]:
    """The kernels whose numbers do not all fit into registers, in words."""
    return [f"{k.name} for {k.chip}: {k.spilled} bytes spilled, {k.registers} registers" for k in kernels(report) if k.spilled]


def reports(root: Path) -> list[Path]:
    """The reports below root/build that are of the sources as they are now."""
    changed = {path: path.stat().st_mtime for kind in ("*.cu", "*.h") for path in (root / "csrc/cuda").glob(kind)}
    headers = max((time for path, time in changed.items() if path.suffix == ".h"), default=0.0)

    def current(report: Path) -> bool:
        source = changed.get(root / "csrc/cuda" / report.name.replace(REPORT, ".cu"))
        return source is not None and report.stat().st_mtime >= max(source, headers)

    return sorted(filter(current, (root / "build").glob(f"**/*{REPORT}")))
