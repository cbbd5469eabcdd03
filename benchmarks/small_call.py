"""What a call costs before it computes: LocallyConnected2d(2, 2, (2, 2), 1) at N = 1 compared with nn.Conv2d(2, 2, 1) in one process.

python -m benchmarks.small_call [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from efcn_kernels import LocallyConnected2d
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.result import prepare, save_json
from efcn_kernels.bench.run import WrongAnswer
from efcn_kernels.bench.timing import interleave, quartiles
from efcn_kernels.cost import using_threads

WANTED = 4.0
ROUNDS = 200


def pair() -> tuple[nn.Conv2d, LocallyConnected2d, Tensor]:
    """The convolution, the layer with its function, an image. Raises WrongAnswer where they differ."""
    conv, x = nn.Conv2d(2, 2, 1), torch.randn(1, 2, 2, 2)
    layer = LocallyConnected2d.from_conv(conv, 2)
    conv(x).sum().backward()
    layer(x).sum().backward()
    assert conv.weight.grad is not None
    assert layer.weight.grad is not None
    for wanted, got in ((conv(x), layer(x)), (conv.weight.grad[:, :, 0, 0], layer.weight.grad.sum(0))):
        if not torch.allclose(wanted, got, atol=1e-6):
            raise WrongAnswer(f"the layer gives {got} where the convolution gives {wanted}")
    return conv, layer, x


def calls(module: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed."""

    def without_gradients() -> None:
        with torch.no_grad():
            module(x)

    return {"forward": lambda: module(x), "forward, no_grad": without_gradients, "forward + backward": lambda: module(x).sum().backward()}


def frames(call: Callable[[], object]) -> int:
    """Python functions that one call enters, itself left out."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    call()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count - 1


def operators(call: Callable[[], object]) -> int:
    """Operators that one call sends through torch's dispatcher."""
    call()
    with profile(use_kineto=False) as events:
        call()
    return sum("::" in event.name for event in events.function_events)


def measure() -> dict[str, Any]:
    """Microseconds of each call (quartiles), their ratio by round, and what a call of the layer consists of."""
    found = {}
    with using_threads(1):
        conv, layer, x = pair()
        ours, theirs = calls(layer, x), calls(conv, x)
        for name in ours:
            times = interleave({"convolution": theirs[name], "layer": ours[name]}, ROUNDS, limit_s=60)
            ratios = [a / b for a, b in zip(times["layer"], times["convolution"])]
            found[name] = {
                "microseconds": {who: [1e3 * t for t in quartiles(rounds)] for who, rounds in times.items()},
                "ratio": quartiles(ratios),
                "rounds": len(ratios),
                "frames": frames(ours[name]),
                "operators": operators(ours[name]),
            }
    return {"what": (__doc__ or "").splitlines()[0], **provenance(), "wanted_ratio": WANTED, "calls": found}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_call", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to this file")
    json: Path | None = parser.parse_args().json
    if json is not None:
        prepare(json)
    result = measure()
    for name, call in result["calls"].items():
        times = {who: median(rounds) for who, rounds in call["microseconds"].items()}
        print(
            f"{name:20} {times['layer']:6.1f} us, convolution {times['convolution']:6.1f} us, ratio {call['ratio'][1]:.2f} "
            f"({call['ratio'][0]:.2f} to {call['ratio'][2]:.2f}); {call['frames']} Python frames, {call['operators']} operators"
        )
    if json is not None:
        save_json(result, json)


if __name__ == "__main__":
    main()
