"""What the three passes of a pattern cost on a CPU, by a small model; docs/performance.md has the measurements behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from efcn_kernels.cost.machine import Machine, Tile
from efcn_kernels.pattern.validation import integer

PASSES = ("forward", "grad_input", "grad_weight")


class Shares(NamedTuple):
    """Shares of the multiply-add peak that full tiles reach, and what a block costs beside its multiply-adds.

    dot: grad_weight where the input channels are too few for the lanes, which then run over the batch.
    dense: nn.Linear in any pass. setup: steps of the reduction that starting on a block takes.
    """

    forward: float
    grad_input: float
    grad_weight: float
    dot: float
    dense: float
    setup: float


# the first five fitted to the shortest rounds of cpu-alexnet-skinny.json, dot to its layer of 3 channels; setup to forward of 1 to 16
# channels -> 48 k3 @12x12 at N = 64 (Xeon: 18, 28, 36, 40, 48, 55 % of the peak for 1, 2, 3, 4, 8, 16). The first from
# benchmarks/results/xeon, what stands for all others too; then cores that read images in place, from benchmarks/results (Zen 4)
COPYING = Shares(forward=0.61, grad_input=0.57, grad_weight=0.68, dot=0.27, dense=0.55, setup=2)
IN_PLACE = Shares(forward=0.82, grad_input=0.86, grad_weight=0.90, dot=0.50, dense=0.83, setup=2)


def shares(tile: Tile) -> Shares:
    """What cores with this tile reach, by how they read images."""
    return IN_PLACE if tile.in_place else COPYING


class Pattern(Protocol):
    """What the model reads of a BlockLayout."""

    @property
    def nnzb(self) -> int: ...
    @property
    def nnz(self) -> int: ...
    @property
    def in_features(self) -> int: ...
    @property
    def out_features(self) -> int: ...

    block: tuple[int, int]


class Work(NamedTuple):
    """What one pass has to do at least, alike in all three: 2 operations for each free weight and image; weights, inputs and outputs once."""

    flop: int
    bytes: int


def work(pattern: Pattern, batch: int, itemsize: int) -> Work:
    """Of `batch` images and numbers of `itemsize` bytes; a weight that a mask leaves out is moved but not computed."""
    co, ci = pattern.block
    activations = batch * (pattern.in_features + pattern.out_features)
    return Work(2 * pattern.nnz * batch, itemsize * (pattern.nnzb * co * ci + activations))


@dataclass(frozen=True)
class Plan:
    """What one pass of a pattern costs.

    flop: operations on free weights; bytes: weights, inputs and outputs, each once. Both are alike in all passes.
    fill: share of the register tile's lanes that work on a free weight and an image, by pass.
    seconds: expected time, by pass. dense_seconds: of one pass of nn.Linear with the whole matrix.
    """

    pattern: str
    batch: int
    dtype: torch.dtype
    machine: Machine
    flop: int
    bytes: int
    fill: dict[str, float]
    seconds: dict[str, float]
    dense_seconds: float

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flop / max(self.bytes, 1)

    @property
    def dense_is_better(self) -> bool:
        """Whether nn.Linear, which computes the zeros too, is expected to take less time for the three passes."""
        return len(PASSES) * self.dense_seconds < sum(self.seconds.values())

    def __str__(self) -> str:
        machine, dense = self.machine, len(PASSES) * self.dense_seconds
        return "\n".join(
            [
                self.pattern,
                f"batch {self.batch}, {str(self.dtype).removeprefix('torch.')}, threads {machine.threads}: "
                f"{machine.peak / 1e9:.0f} GFLOP/s, copies at {machine.copy / 1e9:.1f} GB/s",
                f"each pass    {self.flop / 1e9:.3g} GFLOP, {self.bytes / 1e6:.3g} MB, {self.intensity:.3g} FLOP/byte",
                *(f"{name:12} {1e3 * self.seconds[name]:.3g} ms expected, tiles filled to {self.fill[name]:.0%}" for name in PASSES),
                f"together     {1e3 * sum(self.seconds.values()):.3g} ms; nn.Linear {1e3 * dense:.3g} ms"
                + (": dense would be better" if self.dense_is_better else ""),
            ]
        )


def plan(pattern: Pattern, batch: int, dtype: torch.dtype, machine: Machine) -> Plan:
    """The cost of `batch` images. Raises ValueError for a batch below 1 and a dtype that the kernels do not take."""
    integer("batch", batch, 1)
    if not dtype.is_floating_point or dtype.itemsize < 2:
        raise ValueError(f"dtype must be float32, float64, bfloat16 or float16, got {dtype}")
    co, ci = pattern.block
    stored = pattern.nnzb * co * ci
    # half precision is added up in float32
    lanes = machine.tile.vector_bytes // max(dtype.itemsize, 4)
    images, outputs, inputs, across = (_filled(batch, lanes), *(_filled(c, machine.tile.rows) for c in (co, ci)), _filled(ci, lanes))
    reached = shares(machine.tile)
    outer, dot = reached.grad_weight * outputs * across, reached.dot * images
    free = pattern.nnz / max(stored, 1)
    fill = {"forward": outputs * images, "grad_input": inputs * images, "grad_weight": outputs * across if outer > dot else images}
    full = {"forward": reached.forward, "grad_input": reached.grad_input, "grad_weight": reached.grad_weight if outer > dot else reached.dot}
    depth = {"forward": ci, "grad_input": co, "grad_weight": batch}
    faster = machine.tile.bfloat16 if dtype == torch.bfloat16 else 1.0
    share = {name: faster * free * fill[name] * full[name] * depth[name] / (depth[name] + reached.setup) for name in PASSES}
    flop, moved = work(pattern, batch, dtype.itemsize)
    activations, dense = batch * (pattern.in_features + pattern.out_features), pattern.in_features * pattern.out_features
    return Plan(
        str(pattern),
        batch,
        dtype,
        machine,
        flop,
        moved,
        {name: free * fill[name] for name in PASSES},
        {name: machine.seconds(flop, share[name], moved) for name in PASSES},
        machine.seconds(2 * dense * batch, reached.dense, dtype.itemsize * (dense + activations)),
    )


def _filled(count: int, unit: int) -> float:
    """How full `count` things make the whole units that they need."""
    return count / (unit * max(-(-count // unit), 1))
