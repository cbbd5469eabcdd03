"""What the report's figures share: axes, means with bands, legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from efcn_kernels.study.report.gather import Study, mean

# more panels beside each other are not legible
PANELS = 4
# the page shows no more without making the letters smaller
_WIDEST = 10.3


def across(ax: Axes, by_time: Mapping[int, Sequence[float]], **look: Any) -> bool:
    """Mean over seeds against the relax time, the range of the seeds as a band; whether anything was there."""
    there = {time: [100 * value for value in values] for time, values in by_time.items() if values}
    if not there:
        return False
    (line,) = ax.plot(list(there), [mean(values) for values in there.values()], **({"markersize": 5} | look))
    band(ax, there, line.get_color())
    return True


def band(ax: Axes, values: Mapping[int, Sequence[float]], colour: Any) -> None:
    """The range of the seeds, where there are several."""
    if any(len(each) > 1 for each in values.values()):
        low, high = ([edge(each) for each in values.values()] for edge in (min, max))
        ax.fill_between(list(values), low, high, color=colour, alpha=0.15, linewidth=0)


def relax_axis(ax: Axes, study: Study) -> None:
    """Relax times, evenly spaced in the logarithm, 0 where there is one."""
    first, last = study.times[0], max(study.times[-1], 1)
    if first:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=1, linscale=0.5)
    # those that have not begun have their place too
    ax.set_xlim(first / 1.3 if first else -0.3, last * 1.3)
    shown = some_of(study.times, 9)
    ax.set_xticks(shown, [str(time) for time in shown])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("relax time $t_w$ / epochs (log scale)")


def clean(ax: Axes) -> None:
    """Only the lines that help to read."""
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def width(panels: int) -> float:
    """Inches of a figure of so many panels side by side; a legend has room below one."""
    return float(np.clip(3.1 * panels + 1, 6.5, _WIDEST))


def legend(figure: Figure, columns: int = 4) -> None:
    """One legend for all panels, of what is in any of them."""
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def some_of(times: tuple[int, ...], count: int = PANELS) -> tuple[int, ...]:
    """At most `count` of them, first and last included."""
    if len(times) <= count:
        return times
    return tuple(dict.fromkeys(times[round(i * (len(times) - 1) / (count - 1))] for i in range(count)))
