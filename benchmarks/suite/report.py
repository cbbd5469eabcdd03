"""What a suite found, for people: gpu-suite.md and rooflines beside its JSON, and what the model expects before a suite has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import summary
from benchmarks.suite.ceilings import ceilings
from benchmarks.suite.layers import BATCH, TARGETED
from benchmarks.suite.model import DATA_SHEETS, Ceilings
from benchmarks.suite.parts import PARTS
from benchmarks.suite.store import FILE, read
from benchmarks.suite.targets import Pair, compare, network, predicted
from efcn_kernels.bench.device import PRECISIONS
from efcn_kernels.bench.report import number
from efcn_kernels.bench.result import BY_CUDA, OURS
from efcn_kernels.bench.tables import header, line, shares

_MEMORY = {"H200": 141e9, "H100": 80e9}
_TARGETS = ("layer", "N", "what", "target", "predicted", "measured", "")
_LAYERS = (
    "layer",
    "N",
    "forward / grad-input / grad-weight, ms",
    "predicted",
    "of the roofline",
    "step, ms",
    "predicted",
    "by cuda",
    "conv",
    "Linear",
    "unfold",
    "compiled",
)
_RIVALS = ("conv", "linear", "unfold", "unfold-compiled")
_WORDS = {True: "hit", False: "miss", None: ""}


def write(folder: Path) -> str:
    """Write the report and the figures of what a folder holds; comes back as one line that says what was found and where it is."""
    parts = read(folder / FILE)["parts"]
    runs = runs_of(parts)
    path = folder / "gpu-suite.md"
    path.write_text("\n".join(_lines(parts, runs)) + "\n")
    # here, so that measuring starts without matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from benchmarks.roofline_figure import roofline

    for precision in TARGETED:
        if precision in runs:
            figure = roofline(runs[precision])
            FigureCanvasAgg(figure)
            figure.savefig(folder / f"gpu-suite-roofline-{precision}.png", dpi=150)
    failed = sum(len(part["failed"]) for part in parts.values())
    waiting = sum(len(part["not_run"]) for part in parts.values())
    return f"gpu suite: {sum(len(p['items']) for p in parts.values())} items measured, {failed} failed, {waiting} not run; {path}"


def runs_of(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By precision the measured layers, in the form of a run of `efcn bench`."""
    runs: dict[str, dict[str, Any]] = {}
    measured = parts.get("layers", {"items": {}})
    for precision in PRECISIONS:
        if cases := [entry for entry in measured["items"].values() if entry["precision"] == precision]:
            roofs = ceilings(parts["ceilings"]["items"]["ceilings"]).peak(precision)
            fastest = max(timing["gflops"] for entry in cases for timing in entry["passes"].values())
            runs[precision] = {
                **measured["provenance"],
                "settings": {"isa": None, "dtype": precision},
                "peak_gflops": (roofs.fma or 0) / 1e9,
                "torch_mm_gflops": roofs.product / 1e9,
                "copy_gbytes": roofs.copy / 1e9,
                "peak_doubt": roofs.doubt(1e9 * fastest),
                "cases": cases,
            }
    return runs


def expectation(chip: str) -> str:
    """Markdown: the targets and the layers as the model expects them of a chip, from its data sheet."""
    roofs = DATA_SHEETS[chip]
    lines = [*_targets(compare([], roofs, _MEMORY[chip], together=True)), ""]
    for precision in TARGETED:
        lines += [f"{precision}, N = {BATCH}, milliseconds:", "", *header(("layer", "FLOP/byte", "a pass", "of the roofline", "step", *_RIVALS))]
        for entry in predicted(precision, roofs, _MEMORY[chip])["cases"]:
            if "passes" in entry:
                times = (_ms(entry["steps"].get(name)) for name in (OURS, *_RIVALS))
                intensity = f"{entry['flop_per_pass'] / entry['bytes_per_pass']:.0f}"
                share = f"{100 * entry['passes']['forward']['share_of_attainable']:.0f} %"
                lines.append(line(f"{entry['name']} ({entry['layer']})", intensity, _ms(entry["passes"]["forward"]), share, *times))
        lines.append("")
    return "\n".join(lines).rstrip()


def _lines(parts: Mapping[str, Any], runs: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    yield "# GPU suite"
    for name, part in parts.items():
        yield from ("", f"`{name}`: {_conditions(part)}")
    if measured := parts.get("ceilings", {"items": {}})["items"]:
        roofs = ceilings(measured["ceilings"])
        yield from ("", "## Ceilings", "", *_ceilings(roofs))
        found = _with_networks(parts, runs)
        for title, together in (("Targets", True), ("Targets layer by layer", False)):
            yield from ("", f"## {title}", "", *_targets(compare(found, roofs, _memory(parts), together=together)))
    for precision, run in runs.items():
        doubt = f"; no share can be believed: {run['peak_doubt']}" if run["peak_doubt"] else ""
        backends = ", ".join(sorted({entry["backend"] for entry in run["cases"]}))
        yield from ("", f"## Layers in {precision}", "", f"Computed by {backends}{doubt}.", "", *header(_LAYERS), *map(_layer, run["cases"]))
    if found := parts.get("networks", {"items": {}})["items"]:
        yield from ("", "## Networks", "", *_networks(found.values()))
    for name in _WRITERS:
        if found := parts.get(name, {"items": {}})["items"]:
            yield from ("", f"## {name.capitalize()}", "", *_WRITERS[name](found))
    yield from ("", "## Failed and not run", "", *(list(_missing(parts)) or ["Nothing."]))


def _conditions(part: Mapping[str, Any]) -> str:
    found, device = part["provenance"], part["identity"]["device"]
    smi = found["machine"].get("nvidia_smi") or {}
    clocks = f", {smi['clocks.sm']} MHz and {smi['temperature.gpu']} degrees at the start" if smi else ""
    triton, code = found["machine"].get("triton"), f"commit {(found['commit'] or 'unknown')[:10]}, sources {part['identity']['sources']}"
    versions = f"torch {found['versions']['torch']}" + (f", triton {triton}" if triton else "")
    return f"{device}{clocks}; {versions}; {code}; {found['date'][:16]}; {part['seconds']:.0f} s"


def _ceilings(roofs: Ceilings) -> Iterator[str]:
    yield from header(("copy", *roofs.rates, "an empty call"))
    yield line(f"{roofs.copy / 1e9:.0f} GB/s", *(f"{rate / 1e12:.3g} TFLOP/s" for rate in roofs.rates.values()), f"{1e6 * roofs.launch:.1f} µs")


def _targets(pairs: Sequence[Pair]) -> Iterator[str]:
    yield from (f"{summary([pair.measured for pair in pairs])}.", "", *header(_TARGETS))
    for expected, row in pairs:
        # the model knows no kernels, so it has no word on one backend beside another
        word = "" if expected.hit is None else expected.measured
        yield line(row.layer, str(row.batch), row.what, row.target, word, row.measured, _WORDS[row.hit])


def _with_networks(parts: Mapping[str, Any], runs: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with networks among their cases, as targets take them; a precision may have networks only."""
    part = parts.get("networks", {"items": {}})
    entries: dict[str, list[dict[str, Any]]] = {}
    for item in part["items"].values():
        ways = {"elcn": item["step"]} if "step" in item else item["steps"]
        steps = {"elcn": ways["elcn"]["median_ms"]}
        if cnn := [way["median_ms"] for name, way in ways.items() if name != "elcn"]:
            steps["cnn"] = min(cnn)
        entries.setdefault(item["precision"], []).append(network(item["name"], item["batch"], steps, item.get("peak_bytes")))
    found = []
    for precision in TARGETED:
        empty = {**part.get("provenance", {}), "settings": {"isa": None, "dtype": precision}, "peak_doubt": None, "cases": []}
        run = runs.get(precision, empty)
        found.append({**run, "cases": [*run["cases"], *entries.get(precision, [])]})
    return found


def _memory(parts: Mapping[str, Any]) -> float | None:
    there: float | None = parts["ceilings"]["provenance"]["machine"].get("memory_bytes")
    return there


def _layer(entry: Mapping[str, Any]) -> str:
    passes, expected = entry["passes"].values(), entry["predicted_ms"]
    return line(
        f"{entry['name']} ({entry['layer']})",
        str(entry["batch"]),
        " / ".join(number(timing["median_ms"]) for timing in passes),
        " / ".join(number(ms) for ms in expected["passes"].values()),
        shares([timing["share_of_attainable"] for timing in passes]),
        _ms(entry["steps"][OURS]),
        number(expected["steps"][OURS]),
        *(_ms(entry["steps"].get(name)) for name in (BY_CUDA, *_RIVALS)),
    )


def _networks(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from header(("network", "N", "precision", "way", "step, ms", "predicted", "of the better CNN", "peak memory"))
    for item in items:
        for way, timing in ({"elcn": {**item["step"], "peak_bytes": item["peak_bytes"]}} if "step" in item else item["steps"]).items():
            times = f"{timing['ratio_to_better_cnn']:.2f}x" if "ratio_to_better_cnn" in timing else ""
            peak = f"{timing['peak_bytes'] / 1e9:.2f} GB" if timing.get("peak_bytes") else ""
            expected = number(item["predicted_ms"]["elcn" if way == "elcn" else "cnn"])
            yield line(item["name"], str(item["batch"]), item["precision"], way, number(timing["median_ms"]), expected, times, peak)


def _correctness(items: Mapping[str, Any]) -> Iterator[str]:
    backends = Counter[str]()
    for name, item in items.items():
        backends[name.partition(",")[0]] += item["comparisons"]
    worst = max(item["worst"] for item in items.values())
    counts = ", ".join(f"{count:,} of {name}" for name, count in backends.items() if count)
    yield f"Right in all comparisons: {counts}; the largest error is {worst:.2f} of what is allowed."
    yield from (f"Not compared: {name.partition(',')[0]}, {item['absent']}." for name, item in items.items() if "absent" in item)


def _last_lines(items: Mapping[str, Any]) -> Iterator[str]:
    for name, item in items.items():
        yield f"* {name}: {item['output'][-1] if item['output'] else 'nothing printed'}"


def _profile(items: Mapping[str, Any]) -> Iterator[str]:
    for name, item in items.items():
        yield from (f"One step of {name} ({item['layer']}):", "", *header(("kernel", "µs", "calls")))
        yield from (*(line(f"`{kernel['name'][:80]}`", f"{kernel['us']:.0f}", str(kernel["calls"])) for kernel in item["kernels"]), "")


_WRITERS = {"correctness": _correctness, "sanitizer": _last_lines, "tests": _last_lines, "profile": _profile}


def _missing(parts: Mapping[str, Any]) -> Iterator[str]:
    for name in PARTS:
        if name not in parts:
            yield f"* {name}: not run"
            continue
        for item, reason in parts[name]["failed"].items():
            yield f"* {name}, {item}: {' '.join(reason.split())}"
        for kind, count in Counter(item.partition(", ")[2] or item for item in parts[name]["not_run"]).items():
            yield f"* {name}, {kind}: {count} not run"
        disagreeing = ((item, found) for item, found in parts[name]["items"].items() for found in found.get("skipped", {}).values())
        yield from (f"* {name}, {item}: {reason}" for item, reason in disagreeing if reason.startswith(("disagrees", "fails")))


def _ms(timing: Mapping[str, Any] | None) -> str:
    if timing is None:
        return ""
    return number(timing["median_ms"]) + (f" ({timing['variant']})" if timing.get("variant") else "")
