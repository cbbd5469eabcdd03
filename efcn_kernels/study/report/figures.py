"""The report's figures but for the main one and heat maps (matplotlib, no display); each is None where its data are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from efcn_kernels.study.report.claims import relative_distance
from efcn_kernels.study.report.drawing import across, band, clean, legend, relax_axis, some_of, width
from efcn_kernels.study.report.gather import Study, last_measured, mean
from efcn_kernels.study.report.styles import style_of

# of a training's epochs: what comes before may leave the picture, so that the networks can be told apart
_STEEP = 0.1
# lines that a legend can name; more of them need a colour scale
_NAMED = 7


def curves(study: Study) -> Figure | None:
    """Loss and accuracy over the epochs, for some of the relax times."""
    times = shown_times(study)
    keys = (("train_loss", "training loss / nats", 1), ("test_loss", "test loss / nats", 1), ("test_accuracy", "test accuracy / %", 100))
    figure = Figure(figsize=(width(len(times)), 8), layout="constrained")
    axes = figure.subplots(len(keys), len(times), squeeze=False, sharey="row", sharex="col")
    drawn = False
    for column, time in enumerate(times):
        for row, (key, label, scale) in enumerate(keys):
            ax = axes[row][column]
            last = time + study.config.relax.epochs
            drawn |= _over_epochs(ax, study, "CNN", None, key, scale, last, color="0.7", linewidth=3, label="CNN never stopped")
            for arm in study.relaxed:
                look = {k: v for k, v in style_of(arm).items() if k != "marker"}
                _over_epochs(ax, study, arm, time, key, scale, last, label="control CNN" if arm == "CNN" else arm, **look)
            if time == 0:
                look = {k: v for k, v in style_of("FCN").items() if k != "marker"}
                _over_epochs(ax, study, "FCN", None, key, scale, last, label="FCN", **look)
            ax.axvline(time, color="0.8", linewidth=1, zorder=0)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            clean(ax)
            if column == 0:
                ax.set_ylabel(label)
        axes[0][column].set_title(f"$t_w$ = {time}", fontsize=10)
        axes[-1][column].set_xlabel("epoch since initialisation")
        axes[-1][column].set_xlim(max(0, time - 0.15 * study.config.relax.epochs), time + study.config.relax.epochs)
    if not drawn:
        return None
    axes[-1][0].set_ylim(bottom=_floor(study, times))
    legend(figure)
    return figure


def _floor(study: Study, times: tuple[int, ...]) -> float | None:
    """The lowest test accuracy after the steep epochs, of all that starts from a snapshot; None where nothing is past them."""
    steep = _STEEP * study.config.relax.epochs
    runs = [run for time in times for arm in study.relaxed for run in study.of(arm, time)]
    late = [row["test_accuracy"] for run in runs for row in run.rows if row["epoch"] - run.task.start > steep and row["test_accuracy"] is not None]
    return 100 * min(late) - 2 if late else None


def deviations(study: Study) -> Figure | None:
    """Delta and sharing deviation over the epochs after relaxing, one line for each relax time."""
    arms = list(study.config.relax.followers)
    if not any(run.rows for arm in arms for time in study.times for run in study.of(arm, time)):
        return None
    quantities = {"delta": "locality deviation $\\Delta$", "sharing": "sharing deviation"}
    if arms == ["eLCN"]:
        # it has no off-local weights
        del quantities["delta"]
    figure = Figure(figsize=(width(len(arms)) + 1, 0.8 + 2.6 * len(quantities)), layout="constrained")
    axes = figure.subplots(len(quantities), len(arms), squeeze=False, sharex=True, sharey="row")
    # the last colours of the scale are too light for a line
    norm = SymLogNorm(1, vmin=0, vmax=1.6 * max(study.times[-1], 1))
    colours = colormaps["cividis"]
    named = len(study.times) <= _NAMED
    for column, arm in enumerate(arms):
        for row, (key, label) in enumerate(quantities.items()):
            ax = axes[row][column]
            for time in study.times:
                colour = colours(0.85 * study.times.index(time) / len(study.times) if named else norm(time))
                _deviation(ax, study, arm, time, key, color=colour, label=f"$t_w$ = {time}")
            for run in study.of("FCN")[:1]:
                level = last_measured(run, key, "whole")
                if level is not None and column == 0:
                    # its line would press all others to the bottom
                    ax.annotate(f"FCN: {level:.3f}", (0.03, 0.95), xycoords="axes fraction", va="top", fontsize=9, color=style_of("FCN")["color"])
            clean(ax)
            if column == 0:
                ax.set_ylabel(label)
        axes[0][column].set_title(arm, fontsize=10)
        axes[-1][column].set_xlabel("epochs after $t_w$")
    if named:
        legend(figure)
        return figure
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, label="relax time $t_w$ / epochs", shrink=0.7)
    bar.set_ticks(list(some_of(study.times, 7)), labels=[str(time) for time in some_of(study.times, 7)])
    return figure


def masked_accuracy(study: Study) -> Figure | None:
    """What is left of the accuracy without a part of the weights, and as the nearest CNN."""
    arms = [arm for arm in study.config.relax.followers if any(run.finished for time in study.times for run in study.of(arm, time))]
    if not arms:
        return None
    figure = Figure(figsize=(width(len(arms)), 4.2), layout="constrained")
    axes = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
    parts = (
        ((), "all weights", {"color": "#000000", "marker": "o", "linestyle": "-"}),
        (("without_off_local", "accuracy"), "local weights only", {"color": "#0072B2", "marker": "s", "linestyle": "--"}),
        (("nearest_cnn", "accuracy"), "nearest CNN", {"color": "#E69F00", "marker": "^", "linestyle": "-."}),
        (("without_local", "accuracy"), "off-local weights only", {"color": "#D55E00", "marker": "D", "linestyle": ":"}),
    )
    for ax, arm in zip(axes, arms):
        for keys, label, look in parts:
            values = {}
            for time in study.times:
                runs = [run for run in study.of(arm, time) if run.finished]
                seen = [last_measured(run, *keys) if keys else run.rows[-1]["test_accuracy"] for run in runs]
                values[time] = [value for value in seen if value is not None]
            across(ax, values, label=label, **look)
        ax.set_title(arm, fontsize=10)
        relax_axis(ax, study)
        clean(ax)
    axes[0].set_ylabel("test accuracy / %")
    legend(figure)
    return figure


def distances(study: Study) -> Figure | None:
    """Final test accuracy against the relative distance to the nearest CNN, each follower a point."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for arm in study.config.relax.followers:
        runs = [run for time in study.times for run in study.of(arm, time) if run.finished]
        if runs:
            look = style_of(arm) | {"linestyle": "none"}
            ax.plot([relative_distance(run) for run in runs], [100 * run.rows[-1]["test_accuracy"] for run in runs], label=arm, **look)
            for run in runs:
                place = (relative_distance(run), 100 * run.rows[-1]["test_accuracy"])
                ax.annotate(str(run.task.start), place, xytext=(4, 3), textcoords="offset points", fontsize=7)
    if not ax.lines:
        return None
    fcn = list(study.final("FCN").values())
    if fcn:
        ax.axhline(100 * mean(fcn), label="FCN", color=style_of("FCN")["color"], linestyle="--")
    ax.ticklabel_format(useOffset=False)
    ax.set_xlabel("distance to the nearest CNN / norm of all weights (beside each point: $t_w$)")
    ax.set_ylabel("final test accuracy / %")
    clean(ax)
    ax.legend(frameon=False, fontsize=9)
    return figure


def paths(study: Study) -> Figure | None:
    """Loss and accuracy between the CNN's end and each follower's."""
    by_time = study.ways()
    if not by_time:
        return None
    time, rows = sorted(by_time.items())[len(by_time) // 2]
    arms = list(dict.fromkeys(row["follower"] for row in rows))
    looks: dict[str, dict[str, Any]] = {
        "linear": {"color": "#000000", "linestyle": "-"},
        "curvilinear": {"color": "#0072B2", "linestyle": "--"},
        "string": {"color": "#D55E00", "linestyle": "-.", "marker": "o", "markersize": 4},
        "outputs averaged": {"color": "#E69F00", "linestyle": ":", "linewidth": 2.5},
    }
    figure = Figure(figsize=(width(len(arms)), 5.6), layout="constrained")
    axes = figure.subplots(2, len(arms), squeeze=False, sharex=True, sharey="row")
    for column, arm in enumerate(arms):
        for ax, key, scale in ((axes[0][column], "train_loss", 1), (axes[1][column], "test_accuracy", 100)):
            for way, look in looks.items():
                points = [(row["t"], scale * row[key]) for row in rows if (row["follower"], row["way"]) == (arm, way) and row[key] is not None]
                if points:
                    ax.plot(*zip(*points), label=way, **look)
            clean(ax)
        origin = next(row["from"] for row in rows)
        axes[0][column].set_title(f"{'control CNN' if origin == 'CNN' else 'snapshot'} to {arm}, $t_w$ = {time}", fontsize=10)
        axes[1][column].set_xlabel("position on the way")
    axes[0][0].set_ylabel("training loss / nats")
    axes[1][0].set_ylabel("test accuracy / %")
    legend(figure)
    return figure


def cost(study: Study) -> Figure | None:
    """Weights and time for an epoch of every network, dense matrices for comparison."""
    rows = []
    for arm in ("CNN", *study.config.relax.followers, *(["FCN"] if study.of("FCN") else [])):
        runs = study.of(arm) if arm in ("CNN", "FCN") else [run for time in study.times for run in study.of(arm, time)]
        seconds = [run.seconds for run in runs if run.seconds is not None]
        sizes = next((run.result["measured"]["sizes"] for run in runs if run.finished and run.result), None)
        if seconds and sizes:
            rows.append((arm, sizes, float(np.median(seconds))))
    if not rows:
        return None
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names, colours = [name for name, _, _ in rows], [style_of(name)["color"] for name, _, _ in rows]
    dense = rows[0][1]["dense_weights"]
    for ax, values, form in (
        (left, [sizes["weights"] for _, sizes, _ in rows], "{:,.0f}"),
        (right, [seconds for _, _, seconds in rows], "{:.3g} s"),
    ):
        bars = ax.bar(names, values, color=colours, width=0.65)
        ax.bar_label(bars, [form.format(value) for value in values], padding=2, fontsize=9)
        ax.margins(y=0.12)
        ax.spines[["top", "right"]].set_visible(False)
    # weights differ by factors of hundreds, times do not
    left.set_yscale("log")
    left.set_ylim(min(sizes["weights"] for _, sizes, _ in rows) / 3, dense * 5)
    left.axhline(dense, color="0.4", linestyle="--", linewidth=1)
    left.text(-0.4, dense * 1.6, f"dense nn.Linear: {dense:,}", fontsize=9, color="0.3", va="bottom")
    left.set_ylabel("stored weights (log scale)")
    right.set_ylabel("training time for an epoch / s")
    return figure


def _over_epochs(ax: Axes, study: Study, arm: str, time: int | None, key: str, scale: float, last: int, **look: Any) -> bool:
    by_epoch: dict[int, list[float]] = {}
    for run in study.of(arm, time):
        for row in run.rows:
            if row.get(key) is not None and row["epoch"] <= last:
                by_epoch.setdefault(row["epoch"], []).append(scale * row[key])
    if not by_epoch:
        return False
    ax.plot(list(by_epoch), [mean(values) for values in by_epoch.values()], **look)
    band(ax, by_epoch, look["color"])
    return True


def _deviation(ax: Axes, study: Study, arm: str, time: int, key: str, **look: Any) -> None:
    by_epoch: dict[int, list[float]] = {}
    for run in study.of(arm, time):
        for row in run.rows:
            value = row["measured"].get(key)
            if value is not None:
                by_epoch.setdefault(row["epoch"] - time, []).append(value["whole"])
    if by_epoch:
        ax.plot(list(by_epoch), [mean(values) for values in by_epoch.values()], **look)


def shown_times(study: Study) -> tuple[int, ...]:
    """The relax times that have a panel of their own: of those where something has begun."""
    begun = tuple(time for time in study.times if any(run.rows for arm in study.relaxed for run in study.of(arm, time)))
    return some_of(begun or study.times)
