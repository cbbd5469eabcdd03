"""Targets with what was measured, for a terminal and as Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.targets import Row
from efcn_kernels.bench.report import number
from efcn_kernels.bench.result import OURS

_TARGET_COLUMNS = ("layer", "N", "what", "target", "measured", "")
_WORDS = {True: "hit", False: "miss", None: ""}


def table(rows: Sequence[Row]) -> Table:
    """One line per target, misses in red."""
    view = Table(box=None, padding=(0, 1), header_style="bold", caption=summary(rows), caption_justify="left")
    for name in _TARGET_COLUMNS:
        view.add_column(name, overflow="fold")
    for row in rows:
        colour = {True: "green", False: "red", None: "dim"}[row.hit]
        view.add_row(row.layer, str(row.batch), row.what, row.target, row.measured, f"[{colour}]{_WORDS[row.hit]}[/]")
    return view


def summary(rows: Sequence[Row]) -> str:
    """ "17 of 38 targets are hit, 20 missed, 1 not measured"."""
    count = [sum(row.hit is hit for row in rows) for hit in (True, False, None)]
    return f"{count[0]} of {len(rows)} targets are hit, {count[1]} missed, {count[2]} not measured"


def markdown(rows: Sequence[Row], runs: Mapping[str, dict[str, Any]]) -> str:
    """The targets, then every layer of each run; `runs` by the name of its file."""
    lines = [f"{summary(rows)}.", "", *header(_TARGET_COLUMNS)]
    lines += [line(*map(str, row[:-1]), _WORDS[row.hit]) for row in rows]
    for name, run in runs.items():
        lines += ["", f"`{name}`: {conditions(run)}", "", *header(_LAYER_COLUMNS)]
        lines += [line(*_layer(entry)) for entry in run["cases"]]
    return "\n".join(lines) + "\n"


def conditions(run: dict[str, Any]) -> str:
    """Where and with what a run was made and what the machine reached, on one line."""
    peak = f"no peak ({run['peak_doubt']})" if run["peak_doubt"] else f"peak {run['peak_gflops']:.0f} GFLOP/s"
    return (
        f"{where(run)}; {peak}, torch.mm {run['torch_mm_gflops']:.0f} GFLOP/s, copy {run['copy_gbytes']:.1f} GB/s; "
        f"torch {run['versions']['torch']}, commit {(run['commit'] or 'unknown')[:10]}, {run['date'][:10]}."
    )


def where(run: dict[str, Any]) -> str:
    """ "float32, 2 threads, Intel(R) Xeon(R) Processor, avx512", "bfloat16, NVIDIA H200"."""
    machine = run["machine"]
    if "gpu" in machine:
        return f"{run['settings']['dtype']}, {machine['gpu']}"
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return f"{run['settings']['dtype']}, {threads}, {machine['cpu']}, {machine['isa'] or 'no kernels'}"


_LAYER_COLUMNS = ("layer", "N", "step / ms", "conv", "Linear", "unfold", "FLOP/byte", "of peak: forward / grad-input / grad-weight", "of attainable")


def _layer(entry: dict[str, Any]) -> tuple[str, ...]:
    steps, passes = entry["steps"], entry["passes"].values()
    intensity = entry["flop_per_pass"] / entry["bytes_per_pass"]
    rivals = (rival(steps.get(name)) for name in ("conv", "linear", "unfold"))
    of = (shares([timing[key] for timing in passes]) for key in ("share_of_peak", "share_of_attainable"))
    return (f"{entry['name']} ({entry['layer']})", str(entry["batch"]), number(steps[OURS]["median_ms"]), *rivals, f"{intensity:.1f}", *of)


def rival(timing: dict[str, Any] | None) -> str:
    """Every way to run it, the fastest first: "80.4 (NCHW), 95.1 (channels_last)"."""
    if timing is None:
        return ""
    ways = timing.get("variants_ms") or {"": timing["median_ms"]}
    return ", ".join(number(ms) + (f" ({way})" if way else "") for way, ms in sorted(ways.items(), key=lambda item: item[1]))


def shares(values: list[float | None]) -> str:
    """ "47 / 43 / 52 %", nothing where there is no share."""
    return " / ".join(f"{100 * value:.0f}" for value in values if value is not None) + " %" if None not in values else ""


def header(columns: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [line(*columns), line(*["---"] * len(columns))]


def line(*cells: str) -> str:
    """One line of it."""
    return f"| {' | '.join(cells)} |"
