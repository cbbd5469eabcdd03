"""The report as one self-contained page, and as Markdown beside its figures for sites that show no HTML."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from efcn_kernels.study.report import figures, numbers
from efcn_kernels.study.report.content import sections
from efcn_kernels.study.report.gather import Study
from efcn_kernels.study.report.heatmap_figure import draw_heatmaps
from efcn_kernels.study.report.main_figure import final_accuracy
from efcn_kernels.study.report.texts import NO_FIGURE
from efcn_kernels.study.results import prepare_folder
from efcn_kernels.study.run.storage import write_whole

_FIGURES: dict[str, Callable[[Study], Figure | None]] = {
    "final-accuracy": final_accuracy,
    "curves": figures.curves,
    "deviations": figures.deviations,
    "masked-accuracy": figures.masked_accuracy,
    "distances": figures.distances,
    "paths": figures.paths,
    "cost": figures.cost,
}
_FORMATS: dict[str, dict[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
_LEAD = "After d'Ascoli, Sagun, Bruna, Biroli, *Finding the Needle in the Haystack with Convolutions*, NeurIPS 2019 (arXiv 1906.06766)."
_MINUS = re.compile(r"(?<![^\s(])-(?=[\s\d])")


@dataclass(frozen=True)
class Picture:
    """A figure for the page: an address that holds the picture itself, its width in pixels, and the file beside the page."""

    source: Markup
    width: int
    file: str


def write_report(folder: Path, out: Path | None = None, once: bool = False) -> Path:
    """Write `out`/index.html (out: `folder`/report) and index.md, with every figure and the numbers as CSV beside them; returns the page's path.

    once: each figure as one file alone, SVG or, of heat maps, PNG; else as both. A study that is not finished gives a report of what is
    there. Raises ValueError where there is no study, OutputError, StorageError.
    """
    study = Study(folder)
    target = prepare_folder(folder / "report" if out is None else out)
    pictures = {name: picture for name, draw in _FIGURES.items() if (picture := _saved(draw(study), target, name, once=once)) is not None}
    maps = _heat_maps(study, target, once)
    pictures |= {name: picture for _, name, picture in maps}
    for name, content in (
        ("epochs.csv", numbers.epochs_csv(study)),
        ("finals.csv", numbers.finals_csv(study)),
        ("paths.csv", numbers.paths_csv(study)),
    ):
        write_whole(target / name, content.encode())
    given = {
        "title": f"From a CNN to its {_all_of(study)}: {study.config.network.name} on {study.config.data.name}",
        "lead": _LEAD,
        "sections": sections(study, [(time, name) for time, name, _ in maps]),
        "pictures": pictures,
        "no_figure": NO_FIGURE,
    }
    path = target / "index.html"
    for file, template, marked, escaping in ((path, "page.html.j2", _html, True), (target / "index.md", "page.md.j2", _markdown, False)):
        environment = Environment(
            loader=PackageLoader("efcn_kernels.study.report", "."),
            autoescape=escaping,
            undefined=StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["marked"] = marked
        write_whole(file, environment.get_template(template).render(**given).encode())
    return path


def _all_of(study: Study) -> str:
    *first, last = study.config.relax.followers or ("followers",)
    return f"{', '.join(first)} and {last}" if first else last


def _heat_maps(study: Study, target: Path, once: bool) -> list[tuple[int, str, Picture]]:
    """(relax time, name, picture): the first unit at several relax times, the others at the middle one."""
    found = []
    for time in figures.shown_times(study):
        units = study.heat_maps(time)
        for number, unit in enumerate(units if time == study.middle else units[:1]):
            name = f"heat-maps-{time:03d}-{number}"
            picture = _saved(draw_heatmaps(*unit, time), target, name, vector=False, once=once)
            assert picture is not None
            found.append((time, name, picture))
    return found


def _html(text: str) -> Markup:
    """The marks of `content` as HTML."""
    safe = _MINUS.sub("\u2212", str(escape(text))).replace("t_w", "<i>t</i><sub>w</sub>")
    for mark, tag in ((r"\*\*", "strong"), (r"\*", "em"), ("`", "code")):
        safe = re.sub(f"{mark}(.+?){mark}", rf"<{tag}>\1</{tag}>", safe)
    return Markup(safe)


def _markdown(text: str) -> str:
    """The marks of `content` are Markdown's but for the relax time."""
    return _MINUS.sub("\u2212", text).replace("t_w", "*t*<sub>w</sub>")


def _saved(figure: Figure | None, target: Path, name: str, *, vector: bool = True, once: bool = False) -> Picture | None:
    """Write NAME.png and NAME.svg, or `once`, only the one that the page shows. vector: whether it shows the SVG."""
    if figure is None:
        return None
    FigureCanvasAgg(figure)
    content = {}
    shown = "svg" if vector else "png"
    # the same ids and no date: the same study gives the same bytes
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        # the shown one first, for drawing moves what the next drawing starts from
        for kind in sorted(_FORMATS, key=lambda kind: kind != shown)[: 1 if once else None]:
            file = io.BytesIO()
            figure.savefig(file, format=kind, **_FORMATS[kind])
            content[kind] = file.getvalue()
            write_whole(target / f"{name}.{kind}", content[kind])
    mime = "svg+xml" if vector else "png"
    source = Markup(f"data:image/{mime};base64,{base64.b64encode(content[shown]).decode()}")
    return Picture(source, round(96 * figure.get_figwidth()), f"{name}.{shown}")
