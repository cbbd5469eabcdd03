"""The figures of a demonstration, drawn from its results alone (matplotlib, no display)."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from efcn_kernels.study.arms import ARMS
from efcn_kernels.study.report.heatmap_figure import draw_heatmaps
from efcn_kernels.study.report.styles import STYLES
from efcn_kernels.study.results import seconds_per_epoch
from efcn_kernels.study.tables import cnn_never_stopped, standard_error


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """Draw every figure into `folder` and return their file names."""
    pictures = {
        "curves.png": _curves(results),
        "relax_time.png": _relax_time(results),
        "cost.png": _cost(results),
        "heatmaps.png": _heatmaps(results, folder),
    }
    for name, figure in pictures.items():
        FigureCanvasAgg(figure)
        figure.savefig(folder / name, dpi=150)
    return list(pictures)


def _curves(results: dict[str, Any]) -> Figure:
    """Loss and accuracy over the epochs: the CNN that is never stopped, and every network from the middle relax time."""
    config, before = results["config"], results["cnn"]["epochs"]
    times = config["relax_epochs"]
    middle = times[len(times) // 2]
    runs = [run for run in results["runs"] if run["relax_epoch"] == middle]
    # each line starts at the relax time, where all networks are the same function
    start = [record for record in before if record["epoch"] == middle]
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for row, quantity, label, scale in ((0, "accuracy", "accuracy / %", 100), (1, "loss", "cross-entropy / nats", 1)):
        for column, split in ((0, "train"), (1, "test")):
            ax, key = axes[row][column], f"{split}_{quantity}"
            for time in times:
                ax.axvline(time, color="0.8", linewidth=1, zorder=0)
            _line(ax, before, key, scale, color="0.6", linewidth=3, label=f"CNN, learning rate {config['learning_rate']}")
            for run in runs:
                name = f"{run['name']} from $t_w$, {config['relaxed_learning_rate']}"
                _line(ax, start + run["epochs"], key, scale, label=name, markersize=4, **STYLES[run["name"]])
            _fit(ax, [scale * r[key] for records in (before, *(run["epochs"] for run in runs)) for r in records if r["epoch"] >= times[0]])
            ax.set_ylabel(f"{split} {label}")
            ax.grid(axis="y", color="0.9")
            ax.spines[["top", "right"]].set_visible(False)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if row == 0:
                ax.secondary_xaxis("top").set_xticks(times, [f"$t_w$ = {time}" if time == middle else str(time) for time in times])
    for ax in axes[1]:
        ax.set_xlabel("epoch since initialisation")
    axes[0][1].legend(frameon=False, loc="lower right")
    figure.suptitle(f"{config['data']}: relaxed at $t_w$ = {middle}, other relax times marked above")
    return figure


def _line(ax: Axes, records: list[dict[str, Any]], key: str, scale: float, **style: Any) -> None:
    ax.plot([r["epoch"] for r in records], [scale * r[key] for r in records], **style)


def _fit(ax: Axes, values: list[float]) -> None:
    """Fit the y axis to `values`: the first steep epochs may leave the picture, so that the networks can be told apart."""
    margin = 0.06 * (max(values) - min(values)) or 1.0
    ax.set_ylim(min(values) - margin, max(values) + margin)


def _relax_time(results: dict[str, Any]) -> Figure:
    """Final test accuracy against the relax time, with one standard error of the test set."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    config = results["config"]
    times = config["relax_epochs"]
    kept = [100 * cnn_never_stopped(results, time)["test_accuracy"] for time in times]
    ax.plot(times, kept, color="0.6", linewidth=3, label=f"CNN, learning rate {config['learning_rate']}")
    for shift, name in enumerate(arm.name for arm in ARMS):
        style = STYLES[name]
        runs = [run for run in results["runs"] if run["name"] == name]
        values = [run["epochs"][-1]["test_accuracy"] for run in runs]
        errors = [100 * standard_error(value, config["test_images"]) for value in values]
        # a small shift keeps the bars of equal times apart
        places = [run["relax_epoch"] + 0.01 * (times[-1] - times[0]) * (shift - 1.5) for run in runs]
        label = f"{name} from $t_w$, {config['relaxed_learning_rate']}"
        ax.errorbar(places, [100 * value for value in values], yerr=errors, capsize=3, label=label, **style)
    at_relax = {record["epoch"]: f"\n(CNN: {record['test_accuracy']:.1%})" for record in results["cnn"]["epochs"]}
    ax.set_xticks(times, [f"{time}{at_relax.get(time, '')}" for time in times])
    ax.set_xlabel("relax time $t_w$ / epochs (test accuracy at that time)")
    ax.set_ylabel("test accuracy / %")
    ax.set_title(f"{config['data']}: {config['epochs']} epochs after $t_w$ (bars: one standard error of the test set)", fontsize=10)
    ax.grid(axis="y", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def _cost(results: dict[str, Any]) -> Figure:
    """Weights and time per epoch of every network at the middle relax time; the dense equivalent for comparison."""
    times = results["config"]["relax_epochs"]
    runs = [run for run in results["runs"] if run["relax_epoch"] == times[len(times) // 2]]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names, colours = [run["name"] for run in runs], [STYLES[run["name"]]["color"] for run in runs]
    _bars(left, names, [run["weights"] for run in runs], colours, lambda value: f"{value:,.0f}")
    # weights differ by factors of hundreds, times do not
    left.set_yscale("log")
    left.set_ylim(min(run["weights"] for run in runs) / 3, runs[0]["dense_weights"] * 4)
    left.axhline(runs[0]["dense_weights"], color="0.4", linestyle="--", linewidth=1)
    left.text(-0.4, runs[0]["dense_weights"] * 1.1, f"dense nn.Linear: {runs[0]['dense_weights']:,}", fontsize=9, color="0.3", va="bottom")
    left.set_ylabel("stored weights, 4 bytes each (log scale)")
    _bars(right, names, [seconds_per_epoch(results, name) for name in names], colours, lambda value: f"{value:.2f} s")
    right.set_ylabel("training time per epoch / s")
    figure.suptitle(f"{results['config']['data']}, {results['config']['train_images']:,} images an epoch")
    return figure


def _heatmaps(results: dict[str, Any], folder: Path) -> Figure:
    about = results["heatmaps"]
    with np.load(folder / about["file"]) as stored:
        return draw_heatmaps({name: stored[name] for name in stored.files}, about["unit"], about["relax_epoch"])


def _bars(ax: Axes, names: list[str], values: list[float], colours: list[str], form: Any) -> None:
    bars = ax.bar(names, values, color=colours, width=0.65)
    ax.bar_label(bars, [form(value) for value in values], padding=2, fontsize=9)
    ax.margins(y=0.12)
    ax.spines[["top", "right"]].set_visible(False)
