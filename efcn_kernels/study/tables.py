"""The tables that a demonstration prints."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from efcn_kernels.study.results import seconds_per_epoch

# largest relative difference of a float32 network from its CNN that still counts as rounding
EXACT = 1e-4


def show_exactness(console: Console | None, results: dict[str, Any]) -> None:
    """Print how exactly each mapped network computes what its CNN does, before the first step."""
    if console is None:
        return
    images = results["config"]["test_images"]
    table = _table("t_w", "network", "max |difference|", "relative", "worst layer", "same accuracy")
    table.title = f"Before the first step: logits of network and CNN on {images:,} test images"
    for time, rows in _by_time(results["exactness"]):
        table.add_section()
        for row in rows:
            same = "yes" if row["accuracy_cnn"] == row["accuracy_efcn"] else f"no: {row['accuracy_efcn'] - row['accuracy_cnn']:+.2%}"
            worst = max(row["layers"].values())
            mark = "" if max(worst, row["logits_max_rel"]) < EXACT else " NOT EXACT"
            difference, relative = f"{row['logits_max_abs']:.1e}", f"{row['logits_max_rel']:.1e}{mark}"
            table.add_row(str(time), row["name"], difference, relative, f"{worst:.1e}", same)
    console.print(table)


def show_runs(console: Console | None, results: dict[str, Any]) -> None:
    """Print what became of each network, and what each cost."""
    if console is None:
        return
    config = results["config"]
    table = _table("t_w", "network", "learning rate", "test accuracy", "test loss", "off-local share")
    table.title = f"{config['data']}: {config['epochs']} epochs after the relax time t_w"
    error = standard_error(0.85, config["test_images"])
    table.caption = f"{config['test_images']:,} test images, so one standard error is about {error:.1%}"
    for time, runs in _by_time(results["runs"]):
        table.add_section()
        kept = cnn_never_stopped(results, time)
        _outcome(table, time, "CNN", config["learning_rate"], kept, None)
        for run in runs:
            _outcome(table, time, run["name"], config["relaxed_learning_rate"], run["epochs"][-1], run["off_local_share"])
    console.print(table)
    console.print(_costs(results))


def _outcome(table: Table, time: int, name: str, rate: float, end: dict[str, Any], share: float | None) -> None:
    grown = f"{share:.3f}" if share else "-"
    table.add_row(str(time), name, f"{rate:g}", f"{end['test_accuracy']:.1%}", f"{end['test_loss']:.3f}", grown)


def _costs(results: dict[str, Any]) -> Table:
    """One row for each kind of network: what it holds beside what nn.Linear would, and its median time over all runs."""
    table = _table("network", "weights", "memory", "as dense nn.Linear", "time per epoch")
    table.title = f"Cost of each network ({results['seconds']:.0f} s in all)"
    for name in dict.fromkeys(run["name"] for run in results["runs"]):
        runs = [run for run in results["runs"] if run["name"] == name]
        held, dense = mebibytes(runs[0]["weight_bytes"]), mebibytes(runs[0]["dense_bytes"])
        table.add_row(name, f"{runs[0]['weights']:,}", held, dense, f"{seconds_per_epoch(results, name):.2f} s")
    return table


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=column == "network")
    return table


def _by_time(rows: list[dict[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for time in sorted({row["relax_epoch"] for row in rows}):
        yield time, [row for row in rows if row["relax_epoch"] == time]


def cnn_never_stopped(results: dict[str, Any], relax_epoch: int) -> dict[str, Any]:
    """The record of the first CNN, at its own rate, when the runs from `relax_epoch` end."""
    end = relax_epoch + results["config"]["epochs"]
    return next(record for record in results["cnn"]["epochs"] if record["epoch"] == end)


def mebibytes(size: int) -> str:
    """Bytes as MiB, with the digits that matter."""
    return f"{size / 2**20:.3g} MiB"


def standard_error(accuracy: float, images: int) -> float:
    """One standard error of an accuracy measured on `images` independent images (binomial)."""
    return float((accuracy * (1 - accuracy) / images) ** 0.5)
