"""The command `efcn`: info, verify, bench, demo, relax, report. Printing only.

Exit codes: 0, 1 (wrong results, failed tasks), 2 (bad input), 130 (Ctrl-C).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from efcn_kernels import extras, versions
from efcn_kernels.cli.app import app, bad_input, needs, say
from efcn_kernels.cli.study import demo, relax, report

__all__ = ["app", "demo", "main", "relax", "report"]


def main() -> None:
    """Run the command line and leave with its exit code."""
    app(prog_name="efcn")


def _version(asked: bool) -> None:
    if asked:
        from efcn_kernels import __version__

        # plain print: a version is for scripts, and rich would colour it
        print(f"efcn_kernels {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")] = False,
) -> None:
    pass


@app.command()
def info() -> None:
    """Show what is built in, which instruction set runs, and why something is missing."""
    from efcn_kernels import build_info

    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in build_info().items():
        if isinstance(value, dict):
            for name, state in value.items():
                table.add_row(f"{key.removesuffix('s')} {name}", _state(state))
        elif isinstance(value, list):
            table.add_row(key, ", ".join(map(str, value)) or "none")
        elif key == "torch":
            table.add_row(key, f"{value} ({versions.untested(value) or f'tested: {versions.TESTED}'})")
        else:
            table.add_row(key, "none" if value is None else _state(str(value)))
    table.add_row("extra study", _state(f"missing: {', '.join(absent)}; {extras.INSTALL}" if (absent := extras.missing()) else "installed"))
    Console().print(table)


@app.command()
def verify(
    backend: Annotated[str, typer.Option(help="auto, cpu, cuda, triton or reference.")] = "auto",
    isa: Annotated[str, typer.Option(help="One instruction set such as base, avx2, avx512 or amx, or all that this machine runs.")] = "all",
    geometry: Annotated[list[str] | None, typer.Option(help="Only the geometry of this name; may be repeated.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute, such as cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random weights and images.")] = 0,
) -> None:
    """Compare every pass and gradient with dense float64 arithmetic; leave with code 1 if one is wrong."""
    import torch

    from efcn_kernels import verify as package
    from efcn_kernels.verify.report import render
    from efcn_kernels.verify.run import plan

    names = geometry or []
    # torch asserts where it was built without the device
    with bad_input(ValueError, RuntimeError, AssertionError):
        _, _, geometries = plan(backend, isa, names, device)
        torch.empty(0, device=device)
    with _progress(len(geometries)) as advance:
        report = package.verify(backend, isa, names, seed=seed, advance=advance, device=device)
    Console().print(render(report))
    if report.failures:
        raise typer.Exit(1)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="LAYERS", help="Layers or groups; --list names them.")] = None,
    layers: Annotated[list[str] | None, typer.Option(help="The same, separated by commas or repeated.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images, 250 if not given; may be repeated.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    rounds: Annotated[int, typer.Option(min=1, help="At most so many rounds.")] = 15,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds for one layer with all of its competitors.")] = 30.0,
    against: Annotated[str, typer.Option(help="Competitors, separated by commas, or none.")] = "conv,linear,unfold,csr",
    contiguous: Annotated[bool, typer.Option("--contiguous", help="Time our step on contiguous images too.")] = False,
    isa: Annotated[str | None, typer.Option(help="Instruction set of our kernels, such as avx2; the best if not given.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every round to this file.", metavar="FILE")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the layers and groups and leave.")] = False,
) -> None:
    """Time one training step of layers beside what one would use instead."""
    from efcn_kernels.bench import CASES, GROUPS, Settings, run, select
    from efcn_kernels.bench.report import render
    from efcn_kernels.bench.result import prepare
    from efcn_kernels.bench.run import WrongAnswer

    if show_list:
        Console().print(_list({case.name: str(case) for case in CASES} | {name: ", ".join(group) for name, group in GROUPS.items()}))
        return
    with bad_input(ValueError, OSError):
        cases = select([*(names or []), *_split(layers)] or ["alexnet"])
        rivals = () if against == "none" else tuple(_split([against]))
        settings = Settings(tuple(batch or (250,)), dtype, rounds, limit, rivals, contiguous, isa)
        if json is not None:
            prepare(json)
    with _progress(len(cases) * len(set(settings.batches))) as advance:
        try:
            result = run(cases, settings, advance)
        except WrongAnswer as error:
            say(str(error))
            raise typer.Exit(1) from None
    Console().print(render(result))
    if json is not None:
        result.save(json)


@app.command()
def bench_report(
    results: Annotated[list[Path], typer.Argument(metavar="JSON...", help="What `efcn bench --json` wrote.")],
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this file.", metavar="FILE")] = None,
    figures: Annotated[Path | None, typer.Option(help="Draw the steps of each result.", metavar="DIR")] = None,
) -> None:
    """Show what was measured as tables, and draw it."""
    if figures is not None:
        needs("efcn bench-report --figures", "matplotlib")
    from efcn_kernels.bench import tables
    from efcn_kernels.bench.result import load, prepare

    with bad_input(ValueError, OSError):
        runs = {path.stem: load(path) for path in results}
        Console().print(tables.render(runs))
        if markdown is not None:
            prepare(markdown)
            markdown.write_text(tables.markdown(runs))
        if figures is not None:
            # here, so that the tables need no matplotlib
            from efcn_kernels.bench.figures import draw

            for name, written in runs.items():
                prepare(figures / f"{name}-steps.png")
                draw(written, figures, name)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr with what is under way; nothing where stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        started = False

        def advance(name: str) -> None:
            nonlocal started
            bar.update(task, description=name, advance=int(started))
            started = True

        yield advance


def _split(words: Sequence[str] | None) -> list[str]:
    return [word.strip() for part in words or () for word in part.split(",") if word.strip()]


def _state(text: str) -> str:
    return f"[green]{text}[/]" if text in ("available", "compiled", "installed") else escape(text)


def _list(rows: dict[str, str]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for row in rows.items():
        table.add_row(*row)
    return table
