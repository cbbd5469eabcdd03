"""What was measured against the targets, for a terminal and as Markdown for docs/performance.md, with bars and rooflines.

`python -m benchmarks.report JSON... --markdown FILE --figures DIR`, of what `efcn bench --json` wrote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.targets import Row, evaluate
from efcn_kernels.bench import tables
from efcn_kernels.bench.result import load, prepare

_COLUMNS = ("layer", "N", "what", "target", "measured", "")
_WORDS = {True: "hit", False: "miss", None: ""}


def table(rows: Sequence[Row]) -> Table:
    """One line per target, misses in red."""
    view = Table(box=None, padding=(0, 1), header_style="bold", caption=summary(rows), caption_justify="left")
    for name in _COLUMNS:
        view.add_column(name, overflow="fold")
    for row in rows:
        colour = {True: "green", False: "red", None: "dim"}[row.hit]
        view.add_row(row.layer, str(row.batch), row.what, row.target, row.measured, f"[{colour}]{_WORDS[row.hit]}[/]")
    return view


def summary(rows: Sequence[Row]) -> str:
    """ "17 of 38 targets are hit, 20 missed, 1 not measured"."""
    count = [sum(row.hit is hit for row in rows) for hit in (True, False, None)]
    return f"{count[0]} of {len(rows)} targets are hit, {count[1]} missed, {count[2]} not measured"


def markdown(rows: Sequence[Row], runs: Mapping[str, dict[str, Any]]) -> str:
    """The targets, then every layer of each run; `runs` by the name of its file."""
    lines = [f"{summary(rows)}.", "", *tables.header(_COLUMNS)]
    lines += [tables.line(*map(str, row[:-1]), _WORDS[row.hit]) for row in rows]
    return "\n".join(lines) + "\n\n" + tables.markdown(runs)


def draw(run: dict[str, Any], folder: Path, name: str) -> list[str]:
    """Draw NAME-steps.png and NAME-roofline.png into `folder` and return their file names."""
    # here, so that the tables need no matplotlib
    from benchmarks.roofline_figure import roofline
    from efcn_kernels.bench import figures

    return [figures.draw(run, folder, name), figures.save(roofline(run), folder, f"{name}-roofline.png")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the targets, and write what was asked for. Exits with one line where a file cannot be read or written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="What was measured against the targets.")
    parser.add_argument("results", nargs="+", type=Path, metavar="JSON", help="what `efcn bench --json` wrote")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the steps and the roofline of each result")
    asked = parser.parse_args(arguments)
    try:
        runs = {path.stem: load(path) for path in asked.results}
        rows = evaluate(list(runs.values()))
        Console().print(table(rows))
        if asked.markdown is not None:
            prepare(asked.markdown)
            asked.markdown.write_text(markdown(rows, runs))
        for name, written in runs.items() if asked.figures is not None else ():
            prepare(asked.figures / f"{name}-steps.png")
            draw(written, asked.figures, name)
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.report: {error}")


if __name__ == "__main__":
    main()
