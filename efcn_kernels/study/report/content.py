"""All words of the report, once, for every format that it is written in.

In them `t_w` is the relax time, *...* is set in italics, **...** bold and `...` as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from efcn_kernels import __version__
from efcn_kernels.study.report import costs, texts
from efcn_kernels.study.report.claims import Claim, judge
from efcn_kernels.study.report.gather import Study
from efcn_kernels.study.report.numbers import comparisons, exactness_rows, rank_rows


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Items:
    """A list."""

    lines: Sequence[str]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Table:
    """Rows of words, the first column to the left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Shown:
    """A figure by its name; alt: what it shows, for those who cannot see it."""

    name: str
    alt: str
    caption: str
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Verdicts:
    """Claims with what the study says of them."""

    claims: Sequence[Claim]
    kind: ClassVar[str] = "claims"


@dataclass(frozen=True)
class Code:
    """Lines to be copied."""

    lines: str
    language: str = ""
    kind: ClassVar[str] = "code"


Block = Text | Items | Table | Shown | Verdicts | Code


@dataclass(frozen=True)
class Section:
    """A heading and what comes below it."""

    title: str
    blocks: Sequence[Block]


def sections(study: Study, maps: Sequence[tuple[int, str]]) -> list[Section]:
    """The report from top to bottom. maps: (relax time, name) of the heat maps that there are."""
    return [
        Section("In short", [Items(texts.in_short(study))]),
        Section("What was run", _what_was_run(study)),
        Section("Does relaxing help?", _main(study)),
        Section("What the paper says, and these runs", _claims(study)),
        Section("Training curves", [Shown("curves", "Training loss, test loss and test accuracy by epoch for several relax times", texts.CURVES)]),
        Section("How far from the CNN subspace?", _distances(study)),
        Section(texts.masked_title(study), [Shown("masked-accuracy", "Test accuracy of each follower and of its nearest CNN", texts.masked(study))]),
        *_between(study),
        Section("What a unit looks at", _units(study, maps)),
        Section("What it costs", _cost(study)),
        Section("How to get these numbers again", _again(study)),
    ]


def _what_was_run(study: Study) -> list[Block]:
    blocks: list[Block] = [Text(texts.protocol(study)), Items(texts.arms(study)), Text(texts.noise(study))]
    missing = [run for run in study.runs if not run.finished]
    if missing:
        blocks += [Text(texts.missing(study)), Table(["training", "state"], [[run.task.name, run.status] for run in missing])]
    exact = [
        [row["arm"], str(row["count"]), f"{row['worst']['logits_max_rel']:.1e}", "yes, all" if row["same"] else "no"] for row in exactness_rows(study)
    ]
    if exact:
        blocks += [Text(texts.EXACT), Table(["follower", "mappings", "largest difference", "same test accuracy"], exact)]
    return blocks


def _main(study: Study) -> list[Block]:
    blocks: list[Block] = [Shown("final-accuracy", texts.MAIN_ALT, texts.main(study))]
    rows = [
        [
            row.arm,
            str(row.time),
            f"{100 * row.follower:.2f}",
            f"{100 * row.rival:.2f}",
            str(row.apart).removesuffix(" points"),
            row.verdict,
            str(row.apart.seeds),
            f"{100 * row.late:+.2f}",
            " / ".join(f"{100 * best:.2f}" for best in row.best),
        ]
        for row in comparisons(study)
    ]
    if rows:
        head = [
            "follower",
            "t_w",
            "at its end / %",
            f"{study.rival} / %",
            "difference / points",
            "verdict",
            "seeds",
            "last epochs",
            "best epochs / %",
        ]
        blocks += [Table(head, rows), Text(texts.comparison(study))]
    return blocks


def _claims(study: Study) -> list[Block]:
    claims = judge(study)
    tested, untested = ([claim for claim in claims if (claim.verdict == "not tested") is wanted] for wanted in (False, True))
    blocks: list[Block] = [Verdicts(tested), Text(texts.COUNTS)] if tested else []
    if untested:
        blocks += [Text("**Not tested:**"), Items([f"**{claim.title}** {claim.text}" for claim in untested])]
    return blocks


def _distances(study: Study) -> list[Block]:
    return [
        Shown("deviations", "Deviations from the CNN subspace over epochs", texts.deviations(study)),
        Shown("distances", "Final accuracy against distance to the nearest CNN", texts.distances(study)),
    ]


def _between(study: Study) -> list[Section]:
    if study.config.measure.paths == "none":
        return []
    shown = Shown("paths", "Training loss and test accuracy along ways between two networks", texts.paths(study))
    return [Section("Between the CNN and its followers", [shown])]


def _units(study: Study, maps: Sequence[tuple[int, str]]) -> list[Block]:
    alt = "Incoming weights of one unit of the first layer for each network, relax time "
    blocks: list[Block] = [Text(texts.UNITS), *(Shown(name, f"{alt}{time}", "") for time, name in maps)]
    if not maps:
        blocks.append(Text(texts.NO_FIGURE))
    ranks = [
        [row["arm"], row["layer"], ", ".join(f"{value:.3g}" for value in row["singular_values"][:3])]
        + [f"{row[key]:,.0f}" for key in ("stable_rank", "participation_rank")]
        for row in rank_rows(study)
    ]
    if ranks:
        blocks += [Text(texts.ranks(study)), Table(["network", "layer", "largest singular values", "stable rank", "participation rank"], ranks)]
    return blocks


def _cost(study: Study) -> list[Block]:
    rows = costs.rows(study)
    head = ["network", "stored weights", "MiB", "dense weights", "dense MiB", "seconds an epoch", "times the CNN's"]
    return [
        Shown("cost", "Stored weights and seconds an epoch of each network", texts.COST),
        *([Table(head, rows)] if rows else []),
        Text(costs.beside(study)),
    ]


def _again(study: Study) -> list[Block]:
    # where the images lie is not part of what was computed
    data = study.config.data.model_copy(update={"folder": None})
    config = study.config.model_copy(update={"data": data}).toml()
    blocks: list[Block] = [Text(texts.AGAIN), Code("efcn relax config.toml"), Code(config.strip(), "toml")]
    machine = study.environment
    where = ""
    if machine:
        where = f", torch {machine['packages']['torch']}, Python {machine['python']}, {machine['processor']}, {machine['cpu_count']} cores"
    return [*blocks, Text(f"efcn_kernels {__version__}{where}.")]
