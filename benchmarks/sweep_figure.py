"""Cost against work as one figure: a panel for each swept quantity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

from benchmarks.sweep import Swept
from efcn_kernels.bench.timing import quartiles

# Okabe and Ito's colours; markers say the same once more
STYLES: dict[str, dict[str, Any]] = {
    "forward": {"color": "#0072B2", "marker": "o"},
    "grad_input": {"color": "#E69F00", "marker": "s"},
    "grad_weight": {"color": "#009E73", "marker": "^"},
}


LABELS = {"nnz": "nnz / weights", "N": "N / images", "threads": "threads", "sites": "sites P = Q", "channels": "channels Co = Ci"}


def draw(done: Sequence[Swept], machine: dict[str, Any], path: Path) -> None:
    """Time of a pass against each quantity, both axes logarithmic, with the fitted powers."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2, -(-(len(done) + 1) // 2)).flat)
    for ax, swept in zip(panels, done):
        _panel(ax, swept)
    for ax in panels[len(done) :]:
        ax.axis("off")
    note = (
        "Time of one pass. Markers: medians of the rounds,\nbars: their quartiles.\n\n"
        "Lines: powers fitted to all points; in brackets\nthose of the largest decade; ± one standard error.\n\n"
        "Dotted: as the multiply-adds grow\n(with threads: as they are shared out).\n\n"
        f"{machine['cpu']}, {machine['isa'] or 'no kernels'},\nthreads: {machine['threads']} where they are not swept."
    )
    panels[len(done)].text(0.02, 0.95, note, transform=panels[len(done)].transAxes, va="top", fontsize=10, color="0.25")
    figure.savefig(path, dpi=150)


def _panel(ax: Axes, swept: Swept) -> None:
    values = np.array(swept.values, float)
    ends = values[[0, -1]]
    for name, timings in swept.times.items():
        lower, middle, upper = np.array([quartiles(timing.rounds_ms) for timing in timings]).T
        fit, style = swept.fit(name), STYLES[name]
        label = f"{name}: {fit}" if swept.sweep.name == "threads" else f"{name}: {fit} ({swept.upper(name)})"
        ax.errorbar(values, middle, yerr=(middle - lower, upper - middle), linestyle="none", markersize=5, label=label, **style)
        if fit is not None:
            ax.plot(ends, fit.factor * ends**fit.exponent, color=style["color"], linewidth=1)
    # through the slowest point, where other costs weigh least
    slowest = 0 if swept.sweep.work < 0 else -1
    most = max(timings[slowest].median_ms for timings in swept.times.values())
    ax.plot(ends, most * (ends / ends[slowest]) ** swept.sweep.work, color="0.4", linestyle=":", label=f"multiply-adds: {swept.sweep.work}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    if swept.sweep.name == "threads":
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.xaxis.set_minor_locator(NullLocator())
    # plain numbers, between the decades too where an axis spans only one
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    ax.set_xlabel(LABELS.get(swept.sweep.name, swept.sweep.name))
    ax.set_ylabel("ms")
    ax.margins(y=0.1)
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    ax.grid(color="0.92")
    ax.spines[["top", "right"]].set_visible(False)
