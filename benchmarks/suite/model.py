"""The roofline model of a GPU: what each timing of the suite should be, from FLOP and bytes and two ceilings.

Every operation takes `launch + max(FLOP / matrix rate, bytes / bandwidth of a copy)`. FLOP are those on weights that exist, bytes touch
weights, inputs and outputs once each: an input that several output sites read is taken to stay in cache. Nothing is fitted, so a
measured time below the predicted one means that a ceiling is wrong, and one above it says how much a kernel leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from benchmarks.suite.layers import Item
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.device import PRECISIONS
from efcn_kernels.bench.peak import Peak
from efcn_kernels.bench.result import NO_GRAD_INPUT, OURS, CaseResult, Timing
from efcn_kernels.cost.model import PASSES, work
from efcn_kernels.pattern.layout import BlockLayout

# a dense matrix and its gradient have to fit beside each other, and beside the images
_MOST_DENSE_BYTES = 100e9


class Ceilings(NamedTuple):
    """What a chip can do: bytes/s of a copy (read and written), FLOP/s of matrix products by precision, seconds of a call that does nothing."""

    copy: float
    rates: Mapping[str, float]
    launch: float = 0.0

    def seconds(self, precision: str, flop: float, moved: float) -> float:
        """Of one operation of so many FLOP that moves so many bytes."""
        return self.launch + max(flop / self.rates[precision], moved / self.copy)

    def peak(self, precision: str) -> Peak:
        """The form in which results take their shares."""
        return Peak(self.rates[precision], self.rates[precision], self.copy)


# dense products, as NVIDIA's data sheets give them; the launch is assumed, no sheet gives it
DATA_SHEETS = {
    "H200": Ceilings(4.8e12, {"bfloat16": 989e12, "tf32": 495e12, "float32": 67e12, "float16": 989e12, "float64": 67e12}, 3e-6),
    "H100": Ceilings(3.35e12, {"bfloat16": 989e12, "tf32": 495e12, "float32": 67e12, "float16": 989e12, "float64": 67e12}, 3e-6),
}


@cache
def layout_of(case: Case) -> BlockLayout:
    """The blocks of a layer."""
    return BlockLayout.from_support(case.geometry, case.support)


def dense_fits(case: Case, precision: str) -> bool:
    """Whether a chip holds the layer as a dense matrix and trains it."""
    return 2 * PRECISIONS[precision].dtype.itemsize * case.in_features * case.out_features < _MOST_DENSE_BYTES


def predict(item: Item, ceilings: Ceilings) -> CaseResult:
    """What the suite should measure of a layer: passes, steps of ours and of competitors, in the form of a measured result."""
    case, batch, precision = item
    layout, size = layout_of(case), PRECISIONS[precision].dtype.itemsize
    flop, moved = work(layout, batch, size)

    def together(*operations: tuple[float, float]) -> Timing:
        """FLOP and numbers moved of each operation of a step."""
        return Timing([1e3 * sum(ceilings.seconds(precision, flop, size * numbers) for flop, numbers in operations)])

    x, y = batch * layout.in_features, batch * layout.out_features
    ours, bias = (flop, moved / size), (0, y)
    shared = (flop, x + y + case.geometry.num_taps * layout.block[0] * case.in_channels)
    result = CaseResult(case, batch, layout.nnz, flop, moved, passes=dict.fromkeys(PASSES, together(ours)))
    result.steps[OURS] = together(*[ours] * 3, bias)
    if case.first:
        result.steps[NO_GRAD_INPUT] = together(*[ours] * 2, bias)
    result.steps["conv"] = together(*[shared] * 3, bias)
    if dense_fits(case, precision):
        result.steps["linear"] = together(*[_dense(layout, batch)] * 3, bias)
    for name, compiled in (("unfold", False), ("unfold-compiled", True)):
        if name in item.against:
            result.steps[name] = together(*_unfold(case, batch, compiled), bias)
    return result


def predict_training(cases: Sequence[Case], batch: int, precision: str, ceilings: Ceilings) -> dict[str, float]:
    """Seconds of a whole training step of the convolutions in a row: {"cnn": ..., "elcn": ...}, with ReLU and plain SGD, without pooling."""
    size, found = PRECISIONS[precision].dtype.itemsize, {}
    for network in ("cnn", "elcn"):
        total = 0.0
        for case in cases:
            result = predict(Item(case, batch, precision), ceilings)
            weights = result.weights if network == "elcn" else case.geometry.num_taps * case.in_channels * case.out_channels // case.groups
            # a first layer's images need no gradient; ReLU reads and writes y, then y, gy and the result; SGD reads two numbers a weight
            total += result.steps[OURS if network == "elcn" else "conv"].median_ms / 1e3
            total -= result.passes["forward"].median_ms / 1e3 if case.first else 0.0
            total += ceilings.seconds(precision, 0, 5 * size * batch * case.out_features) + ceilings.seconds(precision, 0, 3 * size * weights)
        found[network] = total
    return found


def _dense(layout: BlockLayout, batch: int) -> tuple[float, float]:
    weights = layout.in_features * layout.out_features
    return 2 * weights * batch, weights + batch * (layout.in_features + layout.out_features)


def _unfold(case: Case, batch: int, compiled: bool) -> Iterator[tuple[float, float]]:
    """FLOP and numbers moved by F.unfold, a product per site, and their gradients; a compiler writes columns at once in the product's order."""
    x, y = batch * case.in_features, batch * case.out_features
    columns = case.geometry.num_taps * case.in_channels * y // case.out_channels
    weights = columns * case.out_channels // (batch * case.groups)
    product = (2 * weights * batch, columns + weights + y)
    # columns, product, y in the order of images; gy in that of sites, both gradients, and columns back to images
    yield from ((0, x + columns), product, (0, 2 * y), (0, 2 * y), product, product, (0, columns + x))
    if not compiled:
        yield from ((0, 2 * columns), (0, 2 * columns))
