"""The ways between what became of a snapshot as a CNN and as each follower."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from efcn_kernels.analysis import Averaged, curvilinear, evaluate, linear, string
from efcn_kernels.analysis.accuracy import batches
from efcn_kernels.mapping import cnn_to_efcn
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.plan import CHECKPOINT, RESULT, Task
from efcn_kernels.study.run.storage import load_tensors, write_whole
from efcn_kernels.study.run.workspace import Workspace
from efcn_kernels.study.train.setting import Setting, seed_of
from efcn_kernels.study.train.stopping import Interrupted, Stop

STEPS = tuple(i / 10 for i in range(11))
STRING_POINTS = 5
# of the followers' learning rate: with all of it single batches move the loss by 0.1 to and fro, more than what is looked for
STRING_RATE = 0.1
_WAYS: dict[str, Callable[[nn.Module, nn.Module, float], nn.Module]] = {"linear": linear, "curvilinear": curvilinear, "outputs averaged": Averaged}


def run_paths(task: Task, workspace: Workspace, setting: Setting, stop: Stop) -> None:
    """Loss and accuracy along each way, at eleven points (a string: at its five), into the task's result.

    The ways start at the control CNN's end where there is one, else at the snapshot, and lead to each follower's end, all in the space of
    that follower's weights. Raises Interrupted, StorageError, DamagedError; what was begun is then begun anew.
    """
    workspace.claim(task)
    torch.manual_seed(seed_of(task.seed, task.start))
    made_of = plan.made_of(task, setting.config)
    images = made_of["images"]
    sets = {name: (data[0][:images], data[1][:images]) for name, data in (("train", setting.train), ("test", setting.test))}
    ends = {end.arm: end for end in plan.joined(task, setting.config)}
    control = ends.get("CNN")

    def look() -> None:
        if stop.wanted:
            raise Interrupted(f"interrupted: {task.name} begins anew")

    ways = []
    for arm in setting.config.relax.followers:
        if all((workspace.result(end) or {}).get("status") == "finished" for end in (control, ends[arm]) if end is not None):
            a, b = (_network(part, arm, task, workspace, setting) for part in (control, ends[arm]))
            ways += [{"follower": arm, "from": "CNN" if control else "snapshot", **row} for row in _along(a, b, sets, setting, look)]
    write_whole(
        workspace.folder(task) / RESULT,
        json.dumps({"status": "finished", "start": task.start, "end": task.end, "made_of": made_of, "ways": ways}, indent=1).encode(),
    )


def _network(end: Task | None, arm: str, task: Task, workspace: Workspace, setting: Setting) -> nn.Module:
    """The network at the end of `end` (None: the snapshot) in the space of `arm`."""
    file = workspace.file(plan.snapshot(task.seed, task.start)) if end is None else workspace.folder(end) / CHECKPOINT
    state = {name.removeprefix("model."): value for name, value in load_tensors(file)[0].items() if name.startswith("model.")}
    cnn: nn.Module = setting.cnn()
    if end is not None and end.arm != "CNN":
        network = cnn_to_efcn(cnn, setting.example, support=plan.support(arm))
        network.load_state_dict(state)
        return network
    cnn.load_state_dict(state)
    return cnn_to_efcn(cnn, setting.example, support=plan.support(arm))


def _along(
    a: nn.Module, b: nn.Module, sets: dict[str, tuple[Tensor, Tensor]], setting: Setting, look: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """look: called between any two networks."""
    for name, between in _WAYS.items():
        for t in STEPS:
            look()
            yield {"way": name, "t": t, **_metrics(between(a, b, t), sets, setting)}
    held = list(batches(*setting.train, setting.batch_size))

    def loss(network: nn.Module, step: int) -> Tensor:
        look()
        images, labels = held[step % len(held)]
        return functional.cross_entropy(network(images), labels)

    rate, steps = STRING_RATE * setting.config.relax.learning_rate, setting.config.measure.string_steps
    chain = string(a, b, loss, points=STRING_POINTS, learning_rate=rate, steps=steps)
    for i, network in enumerate(chain):
        yield {"way": "string", "t": i / (STRING_POINTS - 1), **_metrics(network, sets, setting)}


def _metrics(network: nn.Module, sets: dict[str, tuple[Tensor, Tensor]], setting: Setting) -> dict[str, float | None]:
    """{train,test}_{loss,accuracy}; None where the loss is not finite."""
    found: dict[str, float | None] = {}
    for name, data in sets.items():
        try:
            metrics = asdict(evaluate(network, *data, setting.batch_size))
        except FloatingPointError:
            metrics = {"loss": None, "accuracy": None}
        found |= {f"{name}_{key}": value for key, value in metrics.items()}
    return found
