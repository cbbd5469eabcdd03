"""One self-contained page: text, tables and figures, nothing that would have to be loaded from elsewhere."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from efcn_kernels import __version__
from efcn_kernels.experiment.heatmap_figure import draw_heatmaps
from efcn_kernels.experiment.results import prepare_folder
from efcn_kernels.experiment.study.storage import write_whole

from . import figures, numbers
from .claims import judge
from .gather import Study

_FIGURES: dict[str, Callable[[Study], Figure | None]] = {
    "final-accuracy": figures.final_accuracy,
    "curves": figures.curves,
    "deviations": figures.deviations,
    "masked-accuracy": figures.masked_accuracy,
    "distances": figures.distances,
    "paths": figures.paths,
    "cost": figures.cost,
}


@dataclass(frozen=True)
class Picture:
    """A figure for the page: an address that holds the picture itself, and its width in pixels."""

    source: Markup
    width: int


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write `out`/index.html (out: `folder`/report) with every figure as PNG and SVG and the numbers as CSV beside it; returns its path.

    A study that is not finished gives a report of what is there. Raises ValueError where there is no study, OutputError, StorageError.
    """
    study = Study(folder)
    target = prepare_folder(folder / "report" if out is None else out)
    pictures = {name: picture for name, draw in _FIGURES.items() if (picture := _saved(draw(study), target, name)) is not None}
    maps = _heat_maps(study, target)
    for name, content in (
        ("epochs.csv", numbers.epochs_csv(study)),
        ("finals.csv", numbers.finals_csv(study)),
        ("paths.csv", numbers.paths_csv(study)),
    ):
        write_whole(target / name, content.encode())
    environment = Environment(
        loader=PackageLoader("efcn_kernels.experiment.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"formulas": _relax_times, "short": "{:.3g}".format, "count": "{:,.0f}".format, "error": "{:.1e}".format}
    page = environment.get_template("page.html.j2").render(
        study=study,
        config=study.config,
        claims=judge(study),
        pictures=pictures,
        maps=maps,
        exactness=numbers.exactness_rows(study),
        ranks=numbers.rank_rows(study),
        missing=[run for run in study.runs if not run.finished],
        error=figures.accuracy_error(study),
        version=__version__,
    )
    path = target / "index.html"
    write_whole(path, page.encode())
    return path


def _heat_maps(study: Study, target: Path) -> list[tuple[int, Picture]]:
    """(relax time, picture): the first unit at several relax times, the others at the middle one."""
    found = []
    for time in figures.shown_times(study):
        units = study.heat_maps(time)
        for number, unit in enumerate(units if time == study.middle else units[:1]):
            picture = _saved(draw_heatmaps(*unit, time), target, f"heat-maps-{time:03d}-{number}", vector=False)
            assert picture is not None
            found.append((time, picture))
    return found


def _relax_times(text: str) -> Markup:
    """Set t_w as it is set in formulas, and minus signs."""
    return Markup(escape(text).replace("t_w", Markup("<i>t</i><sub>w</sub>")).replace(" -", " \u2212"))


def _saved(figure: Figure | None, target: Path, name: str, vector: bool = True) -> Picture | None:
    """Write NAME.png and NAME.svg. vector: whether the page shows the SVG."""
    if figure is None:
        return None
    FigureCanvasAgg(figure)
    content = {}
    # the same ids and no date: the same study gives the same bytes
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
            file = io.BytesIO()
            figure.savefig(file, format=kind, **options)
            content[kind] = file.getvalue()
            write_whole(target / f"{name}.{kind}", content[kind])
    kind, mime = ("svg", "svg+xml") if vector else ("png", "png")
    source = Markup(f"data:image/{mime};base64,{base64.b64encode(content[kind]).decode()}")
    return Picture(source, round(96 * figure.get_figwidth()))
