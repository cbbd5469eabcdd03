"""Whole training steps of the networks of d'Ascoli et al. 2019: the CNN beside its eLCN. `python -m benchmarks.network`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.operators import profile
from efcn_kernels.bench.device import PRECISIONS, clock, tf32
from efcn_kernels.bench.machine import provenance
from efcn_kernels.bench.report import number
from efcn_kernels.bench.result import Timing, prepare, save_json
from efcn_kernels.bench.run import WrongAnswer
from efcn_kernels.bench.timing import interleave, quartiles
from efcn_kernels.mapping import cnn_to_efcn
from efcn_kernels.study.models import alexnet, skinny_cnn

NETWORKS: dict[str, Callable[[int, int, int], nn.Sequential]] = {"skinny": skinny_cnn, "alexnet": alexnet}
IMAGE = (3, 32, 32)
CLASSES = 10
SCHEMA = 1
# float32 roundings through nine layers stay far below this relative difference of the losses; a lost tap does not
CLOSE = 1e-4
# in half precision the loss of an untrained network is off by some thousandths
CLOSE_IN_HALF = 3e-2


@dataclass(frozen=True)
class Training:
    """One network with its data. The rate is zero, so that every call is the same step, but for what dropout draws."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    x: Tensor
    labels: Tensor

    def __call__(self) -> Tensor:
        """Forward, loss, backward, plain SGD; returns the loss before the update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(self.network(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def loss(self) -> float:
        """The loss in evaluation mode, without dropout."""
        self.network.eval()
        loss = functional.cross_entropy(self.network(self.x), self.labels)
        self.network.train()
        return float(loss)

    def to(self, dtype: torch.dtype) -> Training:
        """The same network, changed in place, and images in that dtype."""
        return replace(self, network=self.network.to(dtype), x=self.x.to(dtype))

    def peak_bytes(self) -> int | None:
        """What a step holds at most on a GPU: weights, gradients, activations and scratch; None on the CPU."""
        if self.x.device.type != "cuda":
            return None
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats(self.x.device)
        before = torch.cuda.memory_allocated(self.x.device)
        self()
        weights = sum(p.numel() * p.element_size() for p in self.network.parameters())
        return weights + torch.cuda.max_memory_allocated(self.x.device) - before


def trainings(name: str, batch: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> dict[str, Training]:
    """The CNN of that name in NCHW and in channels_last, and its eLCN, on the same images and from the same weights.

    They are compared in float32 before they are converted to `dtype`, and then again.
    Raises ValueError for a name that is not in NETWORKS, WrongAnswer where the losses differ by more than rounding.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    x, labels = torch.randn(batch, *IMAGE, device=device), torch.randint(CLASSES, (batch,), device=device)
    cnn, last = (NETWORKS[name](IMAGE[0], IMAGE[1], CLASSES).to(device) for _ in range(2))
    last.load_state_dict(cnn.state_dict())
    last = last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks = {
        "cnn, NCHW": (cnn, x),
        "cnn, channels_last": (last, x.to(memory_format=torch.channels_last)),
        "elcn": (cnn_to_efcn(cnn, x[:2]), x),
    }
    steps = {key: Training(net, torch.optim.SGD(net.parameters(), lr=0.0), given, labels) for key, (net, given) in networks.items()}
    wanted = steps["cnn, NCHW"].loss()
    check_losses(name, steps, wanted, CLOSE)
    if dtype != torch.float32:
        steps = {key: step.to(dtype) for key, step in steps.items()}
        check_losses(name, steps, wanted, CLOSE_IN_HALF)
    return steps


def check_losses(name: str, steps: Mapping[str, Training], wanted: float, close: float) -> None:
    """Raise WrongAnswer where a loss differs from the wanted one by more than the relative `close`."""
    for key, step in steps.items():
        loss = step.loss()
        if not abs(loss - wanted) <= close * abs(wanted):
            raise WrongAnswer(f"{name}: the loss of {key} is {loss:.7g}, that of the CNN {wanted:.7g}; rounding explains {close:g} of it")


def run(names: Sequence[str], batch: int = 250, rounds: int = 10, limit_s: float = 60.0) -> dict[str, Any]:
    """Time the networks of these names one after the other; what comes back is what the JSON file holds.

    batch: images. rounds: at most. limit_s: seconds for the three ways to train one network. Copies no larger than the logits
    are not listed.
    """
    for name, value in (("batch", batch), ("rounds", rounds), ("limit_s", limit_s)):
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")
    result: dict[str, Any] = {"schema": SCHEMA, **provenance()}
    result["settings"] = {"batch": batch, "rounds": rounds, "limit_s": limit_s, "image": list(IMAGE), "dtype": "float32"}
    result["networks"] = [time_network(name, batch, rounds, limit_s) for name in names]
    return result


def time_network(
    name: str, batch: int, rounds: int, limit_s: float, precision: str = "float32", device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """One network: for each way to train it times, ratio to the better CNN, what is copied, and milliseconds by operator.

    On a GPU the times are those between its events with the host's share in it, the milliseconds by operator the host's alone.
    """
    device, (dtype, rounded) = torch.device(device), PRECISIONS[precision]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with tf32(False):
            steps = trainings(name, batch, dtype, device)
        with tf32(rounded):
            timings = {key: Timing(times) for key, times in interleave(steps, rounds, limit_s, clock=clock(device, flush=False)).items()}
            profiles = {key: profile(step, batch * CLASSES + 1) for key, step in steps.items()}
            peaks = {key: step.peak_bytes() for key, step in steps.items()}
    better = min(timing.median_ms for key, timing in timings.items() if key != "elcn")
    return {
        "name": name,
        "steps": {
            key: {
                **timing.as_dict(),
                "ratio_to_better_cnn": timing.median_ms / better,
                "weights": sum(p.numel() for p in steps[key].network.parameters()),
                **({} if peaks[key] is None else {"peak_bytes": peaks[key]}),
                "copies": profiles[key].copies,
                "operators_ms": {op: ms for op, ms in profiles[key].self_ms.items() if ms >= 0.001 * timing.median_ms},
            }
            for key, timing in timings.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"{', '.join(NETWORKS)}; all of them without a name")
    parser.add_argument("--batch", type=int, default=250, help="images (default: 250)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds over the three steps, at most (default: 10)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each network (default: 60)")
    parser.add_argument("--json", type=Path, help="where to write every round, with machine, commit and versions")
    given = parser.parse_args(arguments)
    try:
        if given.json is not None:
            prepare(given.json)
        result = run(given.networks or list(NETWORKS), given.batch, given.rounds, given.limit)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for network in result["networks"]:
        for key, step in network["steps"].items():
            lower, middle, upper = quartiles(step["rounds_ms"])
            ratio, copies = step["ratio_to_better_cnn"], len(step["copies"])
            print(f"{network['name']:8} {key:19} {number(middle):>5} ms  IQR {number(upper - lower):>5}  {ratio:.2f}x  {copies} copies")
    if given.json is not None:
        save_json(result, given.json)


if __name__ == "__main__":
    main()
