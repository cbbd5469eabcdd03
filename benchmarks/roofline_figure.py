"""The roofline of a run: the rate of each pass at its intensity, below what arithmetic and memory allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from efcn_kernels.bench.tables import where

_PASSES: dict[str, dict[str, Any]] = {
    "forward": {"color": "#0072B2", "marker": "o", "label": "forward"},
    "grad_input": {"color": "#E69F00", "marker": "^", "label": "grad-input"},
    "grad_weight": {"color": "#009E73", "marker": "s", "label": "grad-weight"},
}


def roofline(run: dict[str, Any]) -> Figure:
    """Left every batch, where there are several; right the one with the most layers, the largest of these, with their names."""
    layers = Counter(entry["batch"] for entry in run["cases"])
    batches = sorted(layers)
    panels = [batches, [max(batches, key=lambda batch: (layers[batch], batch))]] if len(batches) > 1 else [batches]
    figure = Figure(figsize=(6.8 * len(panels), 5.6), layout="constrained")
    for ax, shown in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        entries = [entry for entry in run["cases"] if entry["batch"] in shown]
        _panel(ax, run, entries)
        if len(shown) > 1:
            _name_batches(ax, entries, shown)
        else:
            _name_layers(ax, entries, _unit(run)[0])
            ax.set_title(f"N = {shown[0]}", fontsize=10)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) if len(panels) > 1 else 2, frameon=False)
    figure.suptitle(where(run) + (" (the peak is doubted: see peak_doubt)" if run["peak_doubt"] else ""), fontsize=10)
    return figure


def _panel(ax: Axes, run: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
    at = np.array([_intensity(entry) for entry in entries])
    low, high = at.min() / 2, at.max() * 2
    unit, name_of_unit = _unit(run)
    peak, copy, product = (run[name] and run[name] / unit for name in ("peak_gflops", "copy_gbytes", "torch_mm_gflops"))
    if peak:
        x = np.geomspace(low, high, 200)
        roof = f"roof: peak {peak:.0f} {name_of_unit}FLOP/s, copy {copy:.1f} {name_of_unit}B/s"
        ax.plot(x, np.minimum(peak, copy * x), color="black", linewidth=1.4, label=roof)
    # on a GPU it is the peak
    if peak and product != peak:
        forced = ", in an instruction set of its own" if run["settings"]["isa"] else ""
        ax.axhline(product, color="0.5", linestyle="--", linewidth=1.2, label=f"torch.mm {product:.0f} {name_of_unit}FLOP/s{forced}")
    for name, style in _PASSES.items():
        rates = [entry["passes"][name]["gflops"] / unit for entry in entries]
        ax.plot(at, rates, linestyle="none", markersize=5, markeredgecolor="white", markeredgewidth=0.4, **style)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        # 2 and 5 between the powers of ten
        axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
        axis.set_tick_params(which="minor", labelsize=8, labelcolor="0.4")
    ax.set_xlabel("FLOP per byte: weights, x and y touched once")
    ax.set_ylabel(f"{name_of_unit}FLOP/s")
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _unit(run: dict[str, Any]) -> tuple[float, str]:
    return (1e3, "T") if (run["peak_gflops"] or 0) >= 1e4 else (1, "G")


def _name_layers(ax: Axes, entries: Sequence[dict[str, Any]], unit: float) -> None:
    """Upright names along the lower edge, apart from each other, each with a line to its points."""
    ordered = sorted(entries, key=_intensity)
    low, high = ax.get_ylim()
    # room below for the names: 0.7 of the height for 18 letters
    ax.set_ylim(floor := low / (high / low) ** (0.039 * max(18, *(len(entry["name"]) for entry in entries))), high)
    left, right = np.log10(ax.get_xlim())
    wanted = [(np.log10(_intensity(entry)) - left) / (right - left) for entry in ordered]
    for entry, place in zip(ordered, _apart(wanted, min(0.042, 0.96 / len(ordered)))):
        at, lowest = _intensity(entry), min(timing["gflops"] for timing in entry["passes"].values()) / unit
        x = 10 ** (left + place * (right - left))
        ax.plot([at, at, x], [lowest, low / (low / floor) ** 0.12, low / (low / floor) ** 0.3], color="0.75", linewidth=0.7, zorder=0)
        ax.text(x, low / (low / floor) ** 0.33, entry["name"], rotation=90, ha="center", va="top", fontsize=8, color="0.25")


def _name_batches(ax: Axes, entries: Sequence[dict[str, Any]], batches: Sequence[int]) -> None:
    """Each batch above the middle of its points."""
    left, right = np.log10(ax.get_xlim())
    middles = {batch: np.median([np.log10(_intensity(entry)) for entry in entries if entry["batch"] == batch]) for batch in batches}
    ordered = sorted(batches, key=lambda batch: middles[batch])
    for batch, place in zip(ordered, _apart([(middles[batch] - left) / (right - left) for batch in ordered], 0.1)):
        ax.text(place, 1.0, f"N = {batch}", transform=ax.transAxes, ha="center", va="bottom", fontsize=8, color="0.25")


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places, moved as little as it takes to lie `gap` apart and within 0 and 1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else max(place, gap / 2))
    ceiling = 1 - gap / 2
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def _intensity(entry: dict[str, Any]) -> float:
    return float(entry["flop_per_pass"] / entry["bytes_per_pass"])
