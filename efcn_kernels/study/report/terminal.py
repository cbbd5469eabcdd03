"""A finished study for a terminal: how each network ended, what rows and figures mean, and where everything is."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from efcn_kernels.study.report import costs
from efcn_kernels.study.report.compare import against_rival
from efcn_kernels.study.report.gather import Study, mean
from efcn_kernels.study.report.numbers import EXACT, exactness_rows

# each fits beside its name into a line of 80 columns
_FIGURES = {
    "final-accuracy": "final test accuracy by t_w; below, minus the {rival}",
    "curves": "loss and accuracy by epoch",
    "deviations": "how far the weights are from shared and local ones",
    "masked-accuracy": "test accuracy with a part of the weights removed",
    "distances": "final test accuracy by distance to the nearest CNN",
    "paths": "loss and accuracy on ways between trained networks",
    "cost": "stored weights, seconds an epoch",
    "heat-maps-*": "incoming weights of a first-layer unit, by t_w",
}
_FILES = {
    "report/": "index.html (all on one page), index.md, PNG, SVG, CSV",
    "runs/": "metrics, result and checkpoint of each training",
    "config.toml": "what was run; `efcn relax` takes it",
}
_MEANINGS = {
    "CNN": "the CNN of t_w goes on, as the others do: the control",
    "eLCN": "every site has its own filter: locality, no sharing",
    "eFCN": "every weight is free: no sharing, no locality",
    "FCN": "the eFCN's architecture from a random start",
    "FCN-norms": "the same, with the norms of the eFCN",
}


def summary(study: Study, report: Path) -> RenderableType:
    """What `study` has found, with the report that was written into the folder `report`."""
    return Group(
        finals(study),
        "",
        _explained("What the rows mean", _rows(study)),
        "",
        _explained(f"Figures in {report}", _figures(study, report)),
        "",
        _explained(f"Files in {study.folder}", _FILES),
        "",
        Text(f"Open {report / 'index.html'}", style="bold", no_wrap=True, overflow="ignore"),
    )


def finals(study: Study) -> Table:
    """One row for each network and relax time: test accuracy at its end, the difference from its rival, what it costs."""
    table = Table(box=None, padding=(0, 1), header_style="bold", title_justify="left", title_style="bold")
    table.title = f"At the end: the {study.config.network.name} CNN on {study.config.data.name}"
    table.add_column("t_w", justify="right")
    table.add_column("network", no_wrap=True)
    # the star has a column of its own, so that numbers stay below each other
    for name in ("test / %", "difference", "*", "weights", "s/epoch"):
        table.add_column(name, justify="right", no_wrap=True)
    _add(table, study, "", "CNN never stopped", "CNN", None)
    for time in study.times:
        table.add_row()
        for arm in _in_order(study):
            _add(table, study, str(time), _named(arm), arm, time)
    if study.of("FCN"):
        table.add_row()
        _add(table, study, "", "FCN", "FCN", None)
    return table


def _add(table: Table, study: Study, time: str, name: str, arm: str, at: int | None) -> None:
    runs = study.of(arm, at)
    ends = [100 * run.accuracy for run in runs if run.finished]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    held = costs.sizes(runs)
    apart = against_rival(study, arm, at) if at is not None and arm in study.config.relax.followers else None
    table.add_row(
        time,
        name,
        f"{mean(ends):.2f}" if ends else runs[0].status,
        *(("", "") if apart is None else (str(apart).removesuffix(" points"), "*" if apart.sign else "")),
        f"{held['weights']:,}" if held else "",
        f"{mean(seconds):.2f}" if seconds else "",
    )


def _in_order(study: Study) -> list[str]:
    """The control first: the others are compared with it."""
    return sorted(study.relaxed, key=lambda arm: arm != "CNN")


def _named(arm: str) -> str:
    return "control CNN" if arm == "CNN" else arm


def _rows(study: Study) -> dict[str, str]:
    cnn, relax = study.config.cnn, study.config.relax
    found = {
        "t_w": "relax time: the epoch whose CNN the networks start from",
        "CNN never stopped": f"the first CNN: {cnn.epochs} epochs, learning rate {cnn.learning_rate:g}",
        **{_named(arm): _MEANINGS.get(arm, f"as eLCN, with weights {arm[5:]} pixel around each window") for arm in _in_order(study)},
        **({"FCN": _MEANINGS["FCN"]} if study.of("FCN") else {}),
        "all from t_w": f"{relax.epochs} epochs, learning rate {relax.learning_rate:g}",
        "difference": f"in points from the {study.rival}, ± one standard error",
        "*": f"larger than two standard errors ({study.test_images:,} test images)",
    }
    exact = exactness_rows(study)
    if exact:
        worst = max(float(row["worst"]["logits_max_rel"]) for row in exact)
        right = worst < EXACT and all(row["same"] for row in exact)
        same = f"all {sum(row['count'] for row in exact)} mapped networks are the CNN's function" if right else "NOT EXACT: a mapped network differs"
        found["before training"] = f"{same} ({worst:.0e})"
    return found


def _figures(study: Study, report: Path) -> dict[str, str]:
    return {f"{name}.png": words.format(rival=study.rival) for name, words in _FIGURES.items() if next(report.glob(f"{name}.png"), None)}


def _explained(title: str, lines: dict[str, str]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in lines.items():
        table.add_row(Text(name), Text(words))
    return Group(Text(title, style="bold", no_wrap=True, overflow="ignore"), Padding(table, (0, 0, 0, 2)))
