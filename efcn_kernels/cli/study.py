"""The commands of the study, which need the extra `study`: demo, relax, report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from efcn_kernels.cli.app import InputError, app, bad_input, needs, say


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo; DIR-2, DIR-3, ... where DIR has a finished one.", metavar="DIR")] = Path("runs/demo"),
    data: Annotated[str | None, typer.Option(help="Image set, by name; that in the package if not given.", metavar="NAME")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with image sets.", metavar="DIR")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs after each relaxation, 10 if not given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Of the initial weights, 0 if not given.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few epochs on a few images: does it run?")] = False,
) -> None:
    """Run a small study in minutes: train a CNN, convert it into its eFCN at three times, train each, report. Safe to interrupt: run it again."""
    needs("efcn demo")
    from efcn_kernels.study.data.sets import NAMES
    from efcn_kernels.study.demo import demo_config, demo_folder
    from efcn_kernels.study.report import write_report
    from efcn_kernels.study.report.gather import Study
    from efcn_kernels.study.report.terminal import summary
    from efcn_kernels.study.run import scheduler

    if data is not None and data not in NAMES:
        raise InputError(f"data must be one of {', '.join(NAMES)}, got {data!r}")
    console = Console()
    with _study_errors():
        config = demo_config(data=data, data_dir=data_dir, epochs=epochs, seed=seed, quick=quick)
        folder, begun = demo_folder(out, config)
        how = "resumes the demo that was begun there" if begun else "a new demo; interrupt it at any time, the same command resumes it"
        console.print(f"{folder}: {how}", soft_wrap=True, highlight=False)
        scheduler.run_study(config, folder, Console(stderr=True))
        page = write_report(folder)
        console.print(summary(Study(folder), page.parent))


@app.command()
def relax(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, or the folder of a study to resume.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as relax.epochs=5; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; runs/NAME for NAME.toml if not given.", metavar="DIR")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that shares the folder, or local.", metavar="ADDRESS")] = None,
) -> None:
    """Train a CNN, convert it at each relax time, and continue training each variant. Safe to interrupt: run the same command to resume."""
    needs("efcn relax")
    from efcn_kernels.study.config import load
    from efcn_kernels.study.run import scheduler

    again = config.is_dir()
    folder = out or (config if again else Path("runs") / config.stem)
    with _study_errors():
        scheduler.run_study(load(config / "config.toml" if again else config, settings or []), folder, Console(stderr=True), ray)
    # of a team under torchrun one speaks
    if os.environ.get("RANK", "0") == "0":
        Console().print(f"{folder}: everything is done; efcn report {folder} draws it", soft_wrap=True)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What efcn relax wrote, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="Where the report goes; FOLDER/report if not given.", metavar="DIR")] = None,
    publish: Annotated[
        Path | None, typer.Option(help="Copy there all that the report needs, without checkpoints and paths, and the report.", metavar="DIR")
    ] = None,
) -> None:
    """Write what a study found as one HTML page and as Markdown, with its figures as PNG and SVG and its numbers as CSV."""
    needs("efcn report")
    from efcn_kernels.study.report import publish_study, write_report

    if publish is not None and out is not None:
        raise InputError(f"--publish {publish} writes its report below itself: leave --out {out} away")
    with _study_errors():
        page = write_report(folder, out) if publish is None else publish_study(folder, publish)
    Console().print(str(page), soft_wrap=True)


@contextmanager
def _study_errors() -> Iterator[None]:
    """Bad input is one line and code 2; tasks that went wrong are one line and code 1."""
    from efcn_kernels.study.results import OutputError
    from efcn_kernels.study.run.scheduler import StudyError
    from efcn_kernels.study.run.storage import StorageError
    from efcn_kernels.study.run.worker import BusyError

    with bad_input(ValueError, OutputError, BusyError, StorageError):
        try:
            yield
        except StudyError as error:
            say(str(error))
            raise typer.Exit(1) from None
