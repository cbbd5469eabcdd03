"""Small layers once through every pass, for tools that watch each access: `python -m benchmarks.suite.small [DEVICE]`."""

from __future__ import annotations

import sys

import torch

from benchmarks.suite.engines import engines
from benchmarks.suite.measure import our_passes
from efcn_kernels.bench.cases import Case
from efcn_kernels.bench.step import Ours

# a block of each kind: few channels, odd ones, whole tiles
CASES = (
    Case("first", 3, 24, (9, 8), 4, stride=2, padding=2),
    Case("odd", 17, 29, (5, 6), 3, padding=1),
    Case("whole", 32, 64, (4, 4), 3, padding=1),
)
DTYPES = (torch.float32, torch.bfloat16)


def main(device: torch.device) -> None:
    """Every backend but the reference, which has no kernels of its own, where there is another; each answer is checked."""
    there, absent = engines(device)
    for name, reason in absent.items():
        print(f"{name}: not there, {reason}")
    own = [engine for engine in there if engine.backend != "reference"] or there
    for dtype in DTYPES:
        for case in CASES:
            ours = Ours.make(case, 7, dtype, device)
            for engine in own:
                if dtype in engine.dtypes(device, DTYPES):
                    with engine.forced():
                        our_passes(ours, engine.backend, ("batch-last", "channels_last"), 0.0)
                    print(f"{engine}, {case.name}, {dtype}: right")


if __name__ == "__main__":
    main(torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda"))
