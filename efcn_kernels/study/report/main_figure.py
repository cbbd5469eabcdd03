"""The main figure: does relaxing beat the CNN that goes on with the same learning rate?"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from efcn_kernels.study.report.compare import Difference, against_rival, so_far
from efcn_kernels.study.report.drawing import across, clean, legend, relax_axis
from efcn_kernels.study.report.gather import Study, mean
from efcn_kernels.study.report.styles import style_of

# between the error bars of two followers, in points
_STEP = 7


def final_accuracy(study: Study) -> Figure | None:
    """Above: final test accuracy against the relax time. Below: what each follower has more than its rival, with two standard errors.

    What has not finished is drawn hollow, with the epoch that it has reached, and is never joined by a line.
    """
    figure = Figure(figsize=(8.5, 7.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    drawn = False
    for arm in study.relaxed:
        label = f"{arm}, going on from $t_w$" if arm != "CNN" else "control: the CNN going on from $t_w$ with the same learning rate"
        drawn |= across(above, {time: list(study.final(arm, time).values()) for time in study.times}, label=label, **style_of(arm))
        drawn |= _reached(above, study, arm)
    if not drawn:
        return None
    for arm in ("CNN", "FCN"):
        _level(above, study, arm)
    above.set_ylabel("final test accuracy / %")
    ends = [end for number, arm in enumerate(study.config.relax.followers) for end in _apart(figure, below, study, arm, number)]
    relax_axis(below, study)
    if ends:
        below.axhline(0, color="0.3", linewidth=1)
        # bars that are moved beside their relax time do not stretch the axis
        below.set_ylim(min(*ends, 0) - 0.3, max(*ends, 0) + 0.3)
        below.set_ylabel(f"follower $-$ {study.rival}\n/ percentage points")
    else:
        below.text(
            0.5, 0.5, f"no follower and its {study.rival} can be compared yet", ha="center", va="center", transform=below.transAxes, color="0.4"
        )
        below.set_yticks([])
    for ax in (above, below):
        clean(ax)
    legend(figure, columns=2)
    return figure


def _reached(ax: Axes, study: Study, arm: str) -> bool:
    """Hollow points of what is under way; whether there are any."""
    found = [run for time in study.times for run in study.of(arm, time) if run.under_way]
    for number, run in enumerate(found):
        place = (run.task.start, 100 * run.rows[-1]["test_accuracy"])
        name = "control CNN" if arm == "CNN" else arm
        ax.plot(*place, label=f"{name}, not finished" if number == 0 else None, **_hollow(arm))
        _note(ax, study, f"epoch {run.rows[-1]['epoch']} of {run.task.end}", place)
    return bool(found)


def _level(ax: Axes, study: Study, arm: str) -> None:
    """A horizontal line for a network that has no relax time: dotted where its training is under way."""
    look = {"color": "0.55", "linewidth": 3} if arm == "CNN" else {key: value for key, value in style_of(arm).items() if key != "marker"}
    name = "CNN never stopped" if arm == "CNN" else arm
    values = [100 * value for value in study.final(arm).values()]
    if values:
        ax.axhline(mean(values), label=f"{name}, at epoch {study.of(arm)[0].task.end}", zorder=1, **look)
        if len(values) > 1:
            ax.axhspan(min(values), max(values), color=look["color"], alpha=0.15, linewidth=0)
        return
    for run in [run for run in study.of(arm) if run.under_way][:1]:
        label = f"{name}, not finished: epoch {run.rows[-1]['epoch']} of {run.task.end}"
        ax.axhline(100 * run.rows[-1]["test_accuracy"], label=label, zorder=1, **(look | {"linestyle": ":", "linewidth": 1.5}))


def _apart(figure: Figure, ax: Axes, study: Study, arm: str, number: int) -> list[float]:
    """Draw the differences of one follower; both ends of all their bars."""
    # beside each other, or the bars of several followers would hide each other
    shift = _STEP * (number - (len(study.config.relax.followers) - 1) / 2)
    where = ax.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    bars: dict[str, Any] = {"capsize": 3, "linestyle": "none", "transform": where}
    ends: list[float] = []
    for time in study.times:
        looks: list[tuple[Difference, dict[str, Any]]] = []
        if (apart := against_rival(study, arm, time)) is not None:
            looks.append((apart, style_of(arm) | {"markersize": 5}))
        if (reached := so_far(study, arm, time)) is not None:
            looks.append((reached[1], _hollow(arm) | {"elinewidth": 0.8}))
            _note(ax, study, f"both at epoch {reached[0]}", (time, 100 * reached[1].value))
        for apart, look in looks:
            ax.errorbar(time, 100 * apart.value, 100 * apart.margin, **(look | bars))
            ends += [100 * (apart.value - apart.margin), 100 * (apart.value + apart.margin)]
    return ends


def _hollow(arm: str) -> dict[str, Any]:
    return style_of(arm) | {"linestyle": "none", "markerfacecolor": "white", "markersize": 7}


def _note(ax: Axes, study: Study, text: str, place: tuple[float, float]) -> None:
    # to the side where there is room
    last = place[0] == study.times[-1] and len(study.times) > 1
    ax.annotate(
        text,
        place,
        xytext=(-8 if last else 8, 5),
        textcoords="offset points",
        fontsize=8,
        color="0.35",
        ha="right" if last else "left",
    )
