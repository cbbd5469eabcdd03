"""A run as tables for a terminal of 80 columns and more."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from efcn_kernels.bench.peak import Peak
from efcn_kernels.bench.result import OURS, CaseResult, Result, Timing
from efcn_kernels.bench.timing import quartiles

# a quiet machine has a load of a few hundredths; one busy neighbour on two cores makes 0.5 a core
_BUSY = 0.3


def render(result: Result) -> RenderableType:
    """The table, what was skipped, the sums, and how to read them."""
    parts: list[RenderableType] = [table(result)]
    parts += [Padding(Text(line), (0, 0, 0, 1)) for line in (*skipped_lines(result), *sum_lines(result))]
    parts.append(Padding(Text(explanation(result), style="dim"), (1, 1, 0, 1)))
    if warning := load_warning(result):
        parts.append(Padding(Text(warning, style="bold yellow"), (1, 1, 0, 1)))
    return Group(*parts)


def table(result: Result) -> Table:
    """One section per layer, one row per way to compute it."""
    view = Table(box=None, padding=(0, 1), header_style="bold")
    view.add_column("layer", no_wrap=True, min_width=22)
    for name in ("ms", "IQR", "ratio", "forward", "grad-in", "grad-wt"):
        view.add_column(name, justify="right", no_wrap=True)
    peak = None if result.doubt() else result.peak
    for case in result.cases:
        view.add_row()
        view.add_row(f"[bold]{escape(case.case.name)}[/], N {case.batch}", *[""] * 6)
        view.add_row(f"[dim]{escape(str(case.case))}[/]", *[""] * 6)
        for name, timing in case.steps.items():
            view.add_row(*_row(case, name, timing))
            if name == OURS and peak:
                for words, roof in _roofs(case, peak).items():
                    view.add_row(f"[dim]   of {words}[/]", *[""] * 3, *(f"{case.rate(key) / roof:.0%}" for key in case.passes))
    return view


def skipped_lines(result: Result) -> list[str]:
    """One line for each layer and competitor that was not timed, with the reason that the first of its batches gave."""
    batches: dict[tuple[str, str], list[int]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for case in result.cases:
        for name, reason in case.skipped.items():
            batches.setdefault((case.case.name, name), []).append(case.batch)
            reasons.setdefault((case.case.name, name), reason)
    lines = [f"{layer}, N {', '.join(map(str, batches[layer, name]))}: {name} skipped, it {reason}" for (layer, name), reason in reasons.items()]
    return ["", *lines] if lines else []


def sum_lines(result: Result) -> list[str]:
    """One line for each group of layers and each step: "alexnet together, N 250: ours 95.1 ms, conv 120 ms (1.26x), ..."."""
    lines = []
    for (group, batch), sums in result.sums().items():
        parts = [f"{name} {number(ms)} ms" + ("" if name == OURS else f" ({ms / sums[OURS]:.2f}x)") for name, ms in sums.items()]
        lines.append(f"{group} together, N {batch}: {', '.join(parts)}")
    return ["", *lines] if lines else []


def explanation(result: Result) -> str:
    """What the columns mean, and on which machine they were measured."""
    machine, settings = result.provenance["machine"], result.settings
    doubt = result.doubt()
    if doubt or result.peak.fma is None:
        peak = f"No shares of peak: {doubt}."
    else:
        peak = (
            f"forward, grad-in, grad-wt: each pass alone, as a share of the multiply-add peak of {result.peak.fma / 1e9:.0f} GFLOP/s that "
            f"this run measured on {machine['threads']} threads (torch.mm: {result.peak.product / 1e9:.0f}), and of what is attainable where "
            f"weights, x and y come from memory at the {result.peak.copy / 1e9:.1f} GB/s of a copy; caches may give more."
        )
    return (
        f"One step: forward, grad-input, grad-weight, grad-bias of N images, {settings['dtype']}. ms: median of the rounds; "
        f"IQR: distance between their quartiles; ratio: time as a multiple of ours. {peak} {machine['cpu']}, {machine['isa'] or 'no kernels'}, "
        f"torch {result.provenance['versions']['torch']}."
    )


def load_warning(result: Result) -> str | None:
    """That others used the machine when the run began, or None."""
    load, cores = result.provenance["machine"]["load_at_start"], result.provenance["machine"]["cores"]
    if load is None or load < _BUSY * cores:
        return None
    return f"The machine was busy when this began (load {load:.1f} on {cores} cores): neither times nor shares can be relied on."


def number(ms: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 1 else f"{ms:.3f}"


def _row(case: CaseResult, name: str, timing: Timing) -> list[str]:
    lower, middle, upper = quartiles(timing.rounds_ms)
    label = f"{name}, {timing.variant}" if timing.variant else name
    times = [f" {label}", number(middle), number(upper - lower)]
    if name == OURS:
        return times
    ratio = case.ratio(name)
    colour = "green" if ratio > 1.05 else "red" if ratio < 0.95 else "default"
    return [*times, f"[{colour}]{ratio:.2f}x[/]"]


def _roofs(case: CaseResult, peak: Peak) -> dict[str, float]:
    """FLOP/s that the passes are held against; what is attainable only where memory keeps it below the peak."""
    fma, attainable = peak.fma, peak.attainable(case.intensity)
    roofs = {"the peak": fma, "what is attainable": attainable if attainable != fma else None}
    return {words: roof for words, roof in roofs.items() if roof}
