"""A verification as tables for a terminal of 80 columns and more."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from efcn_kernels.verify.passes import PASSES
from efcn_kernels.verify.run import DTYPES, Finding, Report

_SHOWN_FAILURES = 20


def render(report: Report) -> RenderableType:
    """Geometries by dtypes, passes by dtypes, failures, and one line that sums up."""
    parts: list[RenderableType] = [
        _table("geometry", "geometry", report.geometries, report),
        "",
        _table("pass", "name", [name for name in PASSES if report.worst(name=name) is not None], report),
        "",
        *(Text(f"wrong: {failure}", style="red") for failure in report.failures[:_SHOWN_FAILURES]),
    ]
    hidden = len(report.failures) - _SHOWN_FAILURES
    if hidden > 0:
        parts.append(f"and {hidden} more")
    parts.append(Text(summary(report), style="bold red" if report.failures else "bold green"))
    return Group(*parts)


def summary(report: Report) -> str:
    """What was compared, and whether all of it was right."""
    wrong = f"{len(report.failures)} wrong" if report.failures else "all right"
    return f"{len(report.findings):,} comparisons, {wrong}; computed by {', '.join(report.isas)}. 1.00 is the largest error allowed."


def _table(title: str, key: str, rows: list[str], report: Report) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column(title, no_wrap=True, min_width=24)
    for dtype in DTYPES:
        table.add_column(str(dtype).removeprefix("torch."), justify="right")
    for row in rows:
        table.add_row(escape(row), *(_cell([f for f in report.findings if getattr(f, key) == row and f.dtype == dtype]) for dtype in DTYPES))
    return table


def _cell(findings: list[Finding]) -> str:
    if not findings:
        return ""
    worst = max(findings, key=lambda f: f.ratio)
    return f"[bold red]{worst.ratio:.3g} wrong[/]" if worst.failed else f"{worst.ratio:.2f}"
