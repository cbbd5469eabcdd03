"""The parts of the suite: what each measures, and how many of its nine minutes it may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from benchmarks.suite import ceilings, correctness, measure, networks, tools
from benchmarks.suite.layers import BATCHES, LAYERS, Item
from benchmarks.suite.layers import items as layer_items
from benchmarks.suite.model import Ceilings
from benchmarks.suite.store import Items, Store
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.device import hardware
from efcn_kernels.bench.machine import provenance, sources
from efcn_kernels.ops import dispatch
from efcn_kernels.verify.geometries import GEOMETRIES

# what a trial run on a CPU looks at
_QUICK = Case("quick.first", 3, 8, (9, 8), 4, stride=2, padding=2, first=True), Case("quick.wide", 32, 32, (5, 5), 3, padding=1)


@dataclass(frozen=True)
class Setting:
    """Where to measure, and whether only to see that everything runs."""

    device: torch.device
    quick: bool = False

    def identity(self) -> dict[str, Any]:
        """What must be alike for results to be taken over: code, chip, manner."""
        device = hardware(self.device).get("gpu", str(self.device))
        return {"sources": sources(), "device": device, "quick": self.quick, "cuda": dispatch.get("cuda").state}

    def provenance(self) -> dict[str, Any]:
        """Date, machine, commit and versions, with what the GPU is and does now."""
        found = provenance()
        return {**found, "machine": {**found["machine"], **hardware(self.device)}}

    def alive(self) -> bool:
        """Whether the device still answers: after a wrong access it never does, in this process."""
        try:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        except RuntimeError:
            return False
        return True


class Part(NamedTuple):
    """A name, what it does, its seconds, and its items, the most telling first."""

    what: str
    budget_s: float
    items: Callable[[Setting, Store], Items]


def _ceilings(setting: Setting, store: Store) -> Items:
    sizes: Mapping[str, Any] = {"side": 512, "copied_bytes": 1 << 24, "limit_s": 2.0} if setting.quick else {}
    return {"ceilings": lambda: ceilings.measure(setting.device, **sizes)}


def _correctness(setting: Setting, store: Store) -> Items:
    found = correctness.items(setting.device)
    return {name: item for name, item in found.items() if GEOMETRIES[0].name in name} if setting.quick else found


def _roofs(store: Store) -> Ceilings:
    if not (measured := store.items("ceilings")):
        raise ValueError("layers and networks are held against the ceilings of the same run: run the part ceilings first")
    return ceilings.ceilings(measured["ceilings"])


def _layers(setting: Setting, store: Store) -> Items:
    roofs = _roofs(store)
    rounds, limit_s = (3, 0.5) if setting.quick else (9, 1.5)
    chosen = layer_items()
    if setting.quick:
        chosen = [Item(case, batch, precision) for precision in ("float32", "bfloat16") for batch in BATCHES[1::-1] for case in _QUICK]
    return {str(item): _layer(item, setting.device, roofs, rounds, limit_s) for item in chosen}


def _networks(setting: Setting, store: Store) -> Items:
    return networks.items(setting.device, _roofs(store), quick=setting.quick)


def _profile(setting: Setting, store: Store) -> Items:
    return tools.profiles(_QUICK if setting.quick else [case for case in LAYERS if case.name in tools.PROFILED], setting.device)


def _layer(item: Item, *rest: Any) -> Callable[[], dict[str, Any]]:
    return lambda: measure.measure(item, *rest)


PARTS = {
    "ceilings": Part("a copy and matrix products in every precision", 25, _ceilings),
    "correctness": Part("every backend against dense float64 arithmetic", 90, _correctness),
    "layers": Part("passes and steps of layers beside what one would use instead", 185, _layers),
    "networks": Part("whole training steps and their memory", 70, _networks),
    "sanitizer": Part("small layers under compute-sanitizer", 80, lambda setting, _: tools.sanitizers(setting.device, 40)),
    "tests": Part("the kernels' own tests, on the GPU", 60, lambda setting, _: tools.kernel_tests(setting.device, 55)),
    "profile": Part("kernels of some layers' steps", 20, _profile),
}


def run_part(name: str, setting: Setting, store: Store, limit_s: float) -> bool:
    """Measure what is missing of a part, beginning nothing after `limit_s`; whether nothing failed."""
    # what a careful user would switch on: cuDNN's fastest algorithm, and sums that are not rounded to half precision on the way
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    return store.run(name, PARTS[name].items(setting, store), limit_s, setting.provenance, setting.alive)
