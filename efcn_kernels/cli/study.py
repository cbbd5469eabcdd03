"""The commands of the study: demo, relax, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from efcn_kernels.cli.app import InputError, app, bad_input, say


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results, figures and checkpoints.", metavar="DIR")] = Path("demo-output"),
    data: Annotated[str, typer.Option(help="Image set, by name.", metavar="NAME")] = "fashion-mnist-small",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with image sets.", metavar="DIR")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs after each relaxation.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the initial weights.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few epochs on a few images: does it run?")] = False,
) -> None:
    """Train a small CNN, relax it into its eFCN at three times, and draw what happens."""
    # the study draws figures: imported here so that the other commands start without matplotlib
    from efcn_kernels.study.data.sets import NAMES, DataError
    from efcn_kernels.study.demo import run_demo
    from efcn_kernels.study.results import OutputError

    if data not in NAMES:
        raise InputError(f"data must be one of {', '.join(NAMES)}, got {data!r}")
    with bad_input(DataError, OutputError):
        run_demo(out, data=data, data_dir=data_dir, epochs=epochs, seed=seed, console=Console(), quick=quick)


@app.command()
def relax(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, or the folder of a study that is to go on.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as relax.epochs=5; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; runs/NAME for NAME.toml if not given.", metavar="DIR")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that shares the folder, or local.", metavar="ADDRESS")] = None,
) -> None:
    """Train a CNN, relax it at the asked-for times, go on with every network. Interrupt it: the same command goes on."""
    from efcn_kernels.study.config import load
    from efcn_kernels.study.results import OutputError
    from efcn_kernels.study.run.scheduler import StudyError, run_study
    from efcn_kernels.study.run.storage import StorageError
    from efcn_kernels.study.run.worker import BusyError

    again = config.is_dir()
    folder = out or (config if again else Path("runs") / config.stem)
    with bad_input(ValueError, OutputError, BusyError, StorageError):
        try:
            run_study(load(config / "config.toml" if again else config, settings or []), folder, Console(stderr=True), ray)
        except StudyError as error:
            say(str(error))
            raise typer.Exit(1) from None
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
    from efcn_kernels.study.report import publish_study, write_report
    from efcn_kernels.study.results import OutputError
    from efcn_kernels.study.run.storage import StorageError

    if publish is not None and out is not None:
        raise InputError(f"--publish {publish} writes its report below itself: leave --out {out} away")
    with bad_input(ValueError, OutputError, StorageError):
        page = write_report(folder, out) if publish is None else publish_study(folder, publish)
    Console().print(str(page), soft_wrap=True)
