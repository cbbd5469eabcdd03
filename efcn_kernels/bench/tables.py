"""Runs as their JSON holds them, in tables: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from efcn_kernels.bench.competitors import COMPETITORS
from efcn_kernels.bench.report import number
from efcn_kernels.bench.result import OURS

_PASSES = ("forward", "grad_input", "grad_weight")
_COLUMNS = ("layer", "N", "step / ms", "conv", "Linear", "unfold", "FLOP/byte", "of peak: forward / grad-input / grad-weight", "of attainable")


def render(runs: Mapping[str, dict[str, Any]]) -> RenderableType:
    """One table for each run, `runs` by the name of its file, and how to read them."""
    parts: list[RenderableType] = []
    for name, run in runs.items():
        parts += [Padding(Text(f"{name}: {conditions(run)}", style="bold"), (0, 1)), table(run), Text()]
    words = "Times of one training step in ms, medians; of each alternative the fastest way to run it. of peak: forward / grad-input / grad-weight."
    return Group(*parts, Padding(Text(words, style="dim"), (0, 1)))


def table(run: dict[str, Any]) -> Table:
    """One row for each layer and batch, a column for each alternative that was timed."""
    view = Table(box=None, padding=(0, 1), header_style="bold")
    rivals = [name for name in COMPETITORS if any(name in entry["steps"] for entry in run["cases"])]
    view.add_column("layer", no_wrap=True)
    for name in ("N", "ours", *rivals, "of peak"):
        view.add_column(name, justify="right", no_wrap=True)
    for entry in run["cases"]:
        steps, passes = entry["steps"], [timing for name in _PASSES if (timing := entry["passes"].get(name))]
        times = [number(steps[name]["median_ms"]) if name in steps else "-" for name in (OURS, *rivals)]
        view.add_row(escape(entry["name"]), str(entry["batch"]), *times, shares([timing["share_of_peak"] for timing in passes]) or "-")
    return view


def markdown(runs: Mapping[str, dict[str, Any]]) -> str:
    """Every layer of each run, with all ways to run the alternatives."""
    lines = []
    for name, run in runs.items():
        lines += [f"`{name}`: {conditions(run)}", "", *header(_COLUMNS), *(line(*_layer(entry)) for entry in run["cases"]), ""]
    return "\n".join(lines[:-1]) + "\n"


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


def shares(values: Sequence[float | None]) -> str:
    """ "47 / 43 / 52 %", nothing where there is no share."""
    return " / ".join(f"{100 * value:.0f}" for value in values if value is not None) + " %" if None not in values else ""


def header(columns: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [line(*columns), line(*["---"] * len(columns))]


def line(*cells: str) -> str:
    """One line of it."""
    return f"| {' | '.join(cells)} |"


def _layer(entry: dict[str, Any]) -> tuple[str, ...]:
    steps, passes = entry["steps"], entry["passes"].values()
    intensity = entry["flop_per_pass"] / entry["bytes_per_pass"]
    rivals = (_rival(steps.get(name)) for name in ("conv", "linear", "unfold"))
    of = (shares([timing[key] for timing in passes]) for key in ("share_of_peak", "share_of_attainable"))
    return (f"{entry['name']} ({entry['layer']})", str(entry["batch"]), number(steps[OURS]["median_ms"]), *rivals, f"{intensity:.1f}", *of)


def _rival(timing: dict[str, Any] | None) -> str:
    """Every way to run it, the fastest first: "80.4 (NCHW), 95.1 (channels_last)"."""
    if timing is None:
        return ""
    ways = timing.get("variants_ms") or {"": timing["median_ms"]}
    return ", ".join(number(ms) + (f" ({way})" if way else "") for way, ms in sorted(ways.items(), key=lambda item: item[1]))
