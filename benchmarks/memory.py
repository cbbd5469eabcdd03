"""Peak process memory and time of one training step with torch's SGD, with EFCNSGD and with EFCNSGD fused.

    python benchmarks/memory.py --json bench-output/memory.json

Each arm's memory is that of a fresh process: the highest resident memory during the third step, less the memory before
the network was built. `needed` is what the layout says must be there: weights, gradients (none of fused weights), momenta,
activations and their gradients; elementwise modules count no activation of their own. A second process returns what it
frees to the system at once (MALLOC_MMAP_THRESHOLD_): what lies between the two is glibc's stock of freed memory. Times:
one process, interleaved.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efcn_kernels import EFCNSGD, batch_last, cnn_to_efcn
from efcn_kernels.bench import select
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.result import Timing, prepare
from efcn_kernels.bench.timing import interleave
from efcn_kernels.nn import BlockSparse
from efcn_kernels.study.models import alexnet

NETWORK = "alexnet network"
ARMS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "torch.optim.SGD": torch.optim.SGD,
    "EFCNSGD": EFCNSGD,
    "EFCNSGD fused": lambda *args, **kwargs: EFCNSGD(*args, **kwargs, fused=True),
}
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "131072"}
ELEMENTWISE = (nn.ReLU, nn.Dropout, nn.Flatten)


class Subject(NamedTuple):
    """What is trained: a module, its input and what becomes of its output."""

    model: nn.Module
    x: Tensor
    backward: Callable[[Tensor], None]


def subject(name: str, batch: int) -> Subject:
    """The AlexNet of d'Ascoli et al. 2019 as eLCN with cross-entropy, or a named layer with the gradient of its input."""
    torch.manual_seed(0)
    if name == NETWORK:
        x, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
        return Subject(cnn_to_efcn(alexnet(3, 32, 10), x[:2]), x, lambda y: F.cross_entropy(y, labels).backward())
    (case,) = select([name])
    x = batch_last(torch.randn(batch, case.in_channels, *case.size)).requires_grad_()
    gy = batch_last(torch.randn(batch, case.out_channels, *case.geometry.output_size))
    return Subject(case.layer(case.conv()), x, lambda y: y.backward(gy))


def trainer(of: Subject, arm: str, momentum: float) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    """A step, and its optimizer: a tiny rate, so that any number of steps is the same work."""
    optimizer = ARMS[arm](of.model.parameters(), lr=1e-6, momentum=momentum, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        of.x.grad = None
        of.backward(of.model(of.x))
        optimizer.step()

    return step, optimizer


def needed(of: Subject, arm: str, momentum: float) -> dict[str, int]:
    """Bytes by kind."""
    layers = [m for m in of.model.modules() if isinstance(m, BlockSparse)]
    blocks = sum(layer.layout.nnz * layer.weight.element_size() for layer in layers)
    weights = sum(p.numel() * p.element_size() for p in of.model.parameters())
    kept: list[int] = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, y: kept.append(y.numel() * y.element_size()))
        for m in of.model.modules()
        if not list(m.children()) and not isinstance(m, ELEMENTWISE)
    ]
    with torch.no_grad():
        of.model(of.x)
    for hook in hooks:
        hook.remove()
    image = of.x.numel() * of.x.element_size()
    return {
        "weights": weights,
        "gradients": weights - (blocks if arm == "EFCNSGD fused" else 0),
        "momenta": weights if momentum else 0,
        "activations": image + sum(kept),
        "activation_gradients": sum(kept) + (image if of.x.requires_grad else 0),
    }


def status(name: str) -> int:
    """Bytes that /proc/self/status gives for a name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024


def settle() -> None:
    """Give back what was freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def peak(name: str, arm: str, batch: int, momentum: float) -> dict[str, Any]:
    """The memory of one arm, in this process, which must be fresh."""
    # libraries and threads are there before the count begins
    tiny = subject("digits", 2)
    trainer(tiny, arm, momentum)[0]()
    del tiny
    settle()
    before = status("VmRSS")
    of = subject(name, batch)
    expected = needed(of, arm, momentum)
    step, _optimizer = trainer(of, arm, momentum)
    settle()
    for _ in range(2):
        step()
    # the highest mark falls to the present
    Path("/proc/self/clear_refs").write_text("5")
    step()
    highest, total = status("VmHWM") - before, sum(expected.values())
    return {"peak_bytes": highest, "needed_bytes": total, "ratio": highest / total, "needed": expected}


def fresh(name: str, arm: str, asked: argparse.Namespace, environment: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """`peak` in a process of its own."""
    command = [sys.executable, __file__, name, "--arm", arm, "--batch", str(asked.batch), "--momentum", str(asked.momentum)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **environment})
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def times(name: str, batch: int, momentum: float, rounds: int, limit_s: float) -> dict[str, dict[str, Any]]:
    """Times of all arms side by side."""
    steps = {arm: trainer(subject(name, batch), arm, momentum)[0] for arm in ARMS}
    return {arm: Timing(taken).as_dict() for arm, taken in interleave(steps, rounds, limit_s).items()}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=[NETWORK, "alexnet.conv1", "alexnet.conv2", "wide32"], help=f"{NETWORK!r} or layers")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for the times of one subject")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        print(json.dumps(peak(asked.subjects[0], asked.arm, asked.batch, asked.momentum)))
        return
    if asked.json:
        prepare(asked.json)
    result: dict[str, Any] = {**provenance(), "settings": {k: v for k, v in vars(asked).items() if k not in ("json", "arm")}, "subjects": {}}
    for name in asked.subjects:
        memory = {arm: fresh(name, arm, asked) | {"returning": fresh(name, arm, asked, RETURNING)} for arm in ARMS}
        taken = times(name, asked.batch, asked.momentum, asked.rounds, asked.limit)
        result["subjects"][name] = {"memory": memory, "step": taken}
        for arm in ARMS:
            shown = [f"{m['peak_bytes'] / 1e6:7.1f} MB = {m['ratio']:.2f} of what is needed" for m in (memory[arm], memory[arm]["returning"])]
            print(f"{name:16} {arm:16} {shown[0]}; returning {shown[1]}; {taken[arm]['median_ms']:.1f} ms")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
