"""All geometries, dtypes, batch sizes, memory orders and instruction sets; what was found, and how far off it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from efcn_kernels.cost.machine import using_threads
from efcn_kernels.nn import BlockSparse
from efcn_kernels.ops import dispatch
from efcn_kernels.ops.backends import cpu
from efcn_kernels.verify import tolerance
from efcn_kernels.verify.dense import Weights, weight_parameters
from efcn_kernels.verify.geometries import GEOMETRIES, Geometry
from efcn_kernels.verify.passes import ORDERS, Batch, compare

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
BATCHES = (0, 1, 7, 250)
# second derivatives are compositions of the same three passes: one batch size is enough for them
TWICE = 7


@dataclass(frozen=True)
class Finding:
    """One comparison: its largest error as a share of what is allowed, or the error that the layer raised."""

    geometry: str
    dtype: torch.dtype
    isa: str
    order: str
    batch: int
    name: str
    ratio: float
    raised: str = ""

    @property
    def failed(self) -> bool:
        """Whether the result is wrong."""
        return not self.ratio <= 1

    def __str__(self) -> str:
        what = self.raised or f"error {self.ratio:.3g} times what is allowed"
        return f"{self.name}, {self.geometry}, {str(self.dtype).removeprefix('torch.')}, {self.order}, N = {self.batch}, {self.isa}: {what}"


@dataclass
class Report:
    """Everything that was compared. isas: what computed, instruction sets or the name of the backend."""

    isas: list[str]
    geometries: list[str]
    findings: list[Finding] = field(default_factory=list)

    @property
    def failures(self) -> list[Finding]:
        """The wrong ones, the worst first."""
        return sorted((f for f in self.findings if f.failed), key=lambda f: -f.ratio)

    def worst(self, **wanted: object) -> float | None:
        """The largest ratio among the findings whose attributes have these values; None where there are none."""
        ratios = [f.ratio for f in self.findings if all(getattr(f, key) == value for key, value in wanted.items())]
        return max(ratios, default=None)


def plan(backend: str, isa: str, names: Sequence[str] = (), device: torch.device | str = "cpu") -> tuple[str, list[str], list[Geometry]]:
    """(backend, what to compute with, geometries) for the words of the command line.

    Raises ValueError, saying what would be right, for a word that means nothing here or a backend that is missing.
    """
    if backend not in ("auto", *dispatch.NAMES):
        raise ValueError(f"backend must be one of {', '.join(('auto', *dispatch.NAMES))}, got {backend!r}")
    unknown = sorted(set(names) - {g.name for g in GEOMETRIES})
    if unknown:
        raise ValueError(f"no geometry is named {unknown[0]!r}; there are: {'; '.join(g.name for g in GEOMETRIES)}")
    chosen = [g for g in GEOMETRIES if not names or g.name in names]
    if torch.device(device).type != "cpu":
        if isa != "all" or backend == "cpu":
            raise ValueError(f"backend 'cpu' and its instruction sets compute on the CPU, got backend {backend!r}, isa {isa!r} on {device}")
        return backend, [backend], chosen
    missing = cpu.missing()
    if backend == "cpu" and missing:
        raise ValueError(f"backend 'cpu' cannot compute: {missing}")
    if backend == "reference" or (backend == "auto" and missing):
        if isa != "all":
            raise ValueError(f"isa {isa!r} needs the cpu backend: {missing or 'the reference backend has no instruction sets'}")
        return "reference", ["reference"], chosen
    if backend in ("cuda", "triton"):
        reason = dispatch.get(backend).missing() or (None if isa == "all" else f"isa {isa!r} needs the cpu backend")
        if reason:
            raise ValueError(f"backend {backend!r} cannot compute: {reason}")
        return backend, [backend], chosen
    there = cpu.isas()
    if isa != "all" and isa not in there:
        raise ValueError(f"isa must be one of {', '.join(('all', *there))} on this machine, got {isa!r}")
    return "cpu", there if isa == "all" else [isa], chosen


def verify(
    backend: str = "auto",
    isa: str = "all",
    names: Sequence[str] = (),
    *,
    seed: int = 0,
    advance: Callable[[str], None] = lambda _: None,
    device: torch.device | str = "cpu",
    dtypes: Sequence[torch.dtype] = DTYPES,
) -> Report:
    """Compare every pass with dense float64 arithmetic.

    Args:
        backend: "auto" or the name of one. isa: one instruction set, or "all" that this machine runs; of the cpu backend only.
        names: the geometries' names; none: all. seed: of the random weights and images.
        advance: called with a geometry's name before it is computed. device: where to compute. dtypes: in which, any of DTYPES.

    Raises ValueError for unknown words. A kernel that raises is a finding, not an error.
    """
    name, isas, geometries = plan(backend, isa, names, device)
    report = Report(isas, [g.name for g in geometries])
    many = torch.get_num_threads()
    # waking a second thread for problems of this size costs more than it computes, many times over on a busy machine
    with dispatch.forced_backend(name), using_threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for geometry in geometries:
            advance(geometry.name)
            report.findings.extend(_geometry(geometry, isas, many, torch.device(device), dtypes))
    return report


def _geometry(geometry: Geometry, isas: list[str], threads: int, device: torch.device, dtypes: Sequence[torch.dtype]) -> Iterator[Finding]:
    conv = geometry.conv()
    layer = geometry.layer(conv)
    weights = Weights.of(layer)
    yield Finding(geometry.name, torch.float64, "dense", "contiguous", 0, "matrix", _matrix(geometry, conv, layer, weights))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=min(1.0, layer.layout.in_features**-0.5 * 4))
    for part, place in zip(weight_parameters(layer), weights.places):
        part.data.view(-1)[place < 0] = 0
    flat = (geometry.channels[0] * torch.Size(geometry.size).numel(),)
    image = flat if geometry.masked else (geometry.channels[0], *geometry.size)
    weights = weights.to(device)
    for dtype in dtypes:
        layer = layer.to(device, dtype)
        for count in BATCHES:
            batch = Batch.make(layer, weights, count, twice=count == TWICE)
            for isa in isas:
                for order in ORDERS:
                    with cpu.forced_isa(isa) if isa in cpu.isas() else nullcontext(), using_threads(threads if count == max(BATCHES) else 1):
                        try:
                            for name, ratio in compare(layer, weights, image, batch, order):
                                yield Finding(geometry.name, dtype, isa, order, count, name, ratio)
                        except (RuntimeError, ValueError, IndexError, TypeError) as error:
                            raised = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                            yield Finding(geometry.name, dtype, isa, order, count, "computation", float("inf"), raised)


def _matrix(geometry: Geometry, conv: torch.nn.modules.conv._ConvNd, layer: BlockSparse, weights: Weights) -> float:
    """The layer's dense matrix beside that of torch's own convolution; what a mask leaves out has to be zero."""
    wanted, absolute = geometry.matrix(conv), geometry.matrix(conv, absolute=True)
    if geometry.masked:
        stored = weights.dense([torch.ones_like(p) for p in weight_parameters(layer)])
        wanted, absolute = wanted * stored, absolute * stored
    return tolerance.ratio(layer.to_dense().detach(), wanted, absolute)
