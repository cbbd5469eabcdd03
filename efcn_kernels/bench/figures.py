"""The figures of a run, drawn from its JSON alone (matplotlib, no display)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from efcn_kernels.bench.result import CONTIGUOUS, OURS
from efcn_kernels.bench.tables import where

# Okabe and Ito's colours, told apart with every kind of colour vision; ours stand out, alternatives are greys but one
_BARS = {
    OURS: ("#0072B2", "this package, batch-last"),
    CONTIGUOUS: ("#56B4E9", "this package, contiguous"),
    "conv": ("#E69F00", "convolution (shared weights)"),
    "linear": ("0.35", "dense Linear"),
    "unfold": ("0.6", "unfold + baddbmm"),
    "csr": ("0.82", "torch CSR"),
}
_LAYERS_PER_ROW = 8


def draw(run: dict[str, Any], folder: Path, name: str) -> str:
    """Draw NAME-steps.png into `folder` and return its file name."""
    return save(steps(run), folder, f"{name}-steps.png")


def save(figure: Figure, folder: Path, file: str) -> str:
    """Write a figure as `folder`/`file` and return the file name."""
    FigureCanvasAgg(figure)
    figure.savefig(folder / file, dpi=150)
    return file


def steps(run: dict[str, Any]) -> Figure:
    """One step of each layer at the largest batch beside the alternatives: medians, with the quartiles as spread."""
    batch = max(entry["batch"] for entry in run["cases"])
    entries = [entry for entry in run["cases"] if entry["batch"] == batch]
    names = [name for name in _BARS if any(name in entry["steps"] for entry in entries)]
    rows = -(-len(entries) // _LAYERS_PER_ROW)
    per_row = -(-len(entries) // rows)
    figure = Figure(figsize=(max(6.0, 1.5 * per_row), 1.0 + 3.2 * rows), layout="constrained")
    for index, ax in enumerate(figure.subplots(rows, 1, squeeze=False, sharey=True)[:, 0]):
        _bars(ax, entries[index * per_row : (index + 1) * per_row], names)
        ax.set_xlim(-0.6, per_row - 0.4)
    handles = [Patch(color=_BARS[name][0], label=_BARS[name][1]) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if per_row > 5 else 2, frameon=False)
    title = f"One training step, N = {batch}; {where(run)}\nmedians and quartiles; the fastest way to run each alternative"
    figure.suptitle(title, fontsize=10)
    return figure


def _bars(ax: Axes, entries: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    width = 0.84 / len(names)
    for place, name in enumerate(names):
        timed = [(index, entry["steps"][name]) for index, entry in enumerate(entries) if name in entry["steps"]]
        middle = np.array([timing["median_ms"] for _, timing in timed])
        spread = np.abs([[timing[f"{side}_quartile_ms"] for _, timing in timed] for side in ("lower", "upper")] - middle)
        at = np.array([index for index, _ in timed]) + (place - (len(names) - 1) / 2) * width
        ax.bar(at, middle, 0.92 * width, color=_BARS[name][0], yerr=spread, error_kw={"elinewidth": 0.9, "capsize": 1.5})
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_ylabel("ms a step (log scale)")
    ax.set_xticks(range(len(entries)), [f"{entry['name']}\n{entry['layer'].replace(' @', chr(10) + '@')}" for entry in entries], fontsize=8)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
