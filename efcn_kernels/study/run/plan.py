"""The tasks of a study and what each of them needs: a small graph whose edges are files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from efcn_kernels.study.config import Config

# of a mapping: a halo in pixels, or in words; None: no mapping
Support = int | Literal["local", "full"] | None

# the last file of a task, and the one that others wait for
RESULT = "result.json"
# beside it: heat maps as weights (units, C, H, W), and right (N,), which test images it classifies right
HEAT_MAPS, ANSWERS = "heatmaps.npz", "answers.npz"
# the state that a training goes on from
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Task:
    """One network to train, or with arm "paths" the ways between trained ones.

    name: its folder below `runs`. start: the epoch at which it begins, counted from the CNN's initialisation; end: after which it ends.
    """

    name: str
    arm: str
    seed: int
    start: int
    end: int

    @property
    def is_cnn(self) -> bool:
        """Whether this is the CNN that everything starts from."""
        return self.name == cnn_name(self.seed)

    @property
    def relaxes(self) -> bool:
        """Whether it starts from a snapshot."""
        return not self.is_cnn and self.arm != "FCN"


def tasks(config: Config) -> list[Task]:
    """Every task, each after what it needs."""
    found = []
    relax, times = config.relax, config.times
    arms = [*relax.followers, *(arm for arm in relax.controls if arm != "FCN")]
    middle = times[len(times) // 2]
    for seed in config.run.seeds:
        found.append(Task(cnn_name(seed), "CNN", seed, 0, config.cnn.epochs))
        if "FCN" in relax.controls:
            found.append(Task(f"seed-{seed}/FCN", "FCN", seed, 0, relax.epochs))
        for time in times:
            found += [Task(relaxed_name(seed, time, arm), arm, seed, time, time + relax.epochs) for arm in arms]
            if config.measure.paths == "all" or (config.measure.paths == "middle" and time == middle):
                found.append(Task(relaxed_name(seed, time, "paths"), "paths", seed, time, time))
    return found


def cnn_name(seed: int) -> str:
    """The CNN of a seed."""
    return f"seed-{seed}/CNN"


def relaxed_name(seed: int, time: int, arm: str) -> str:
    """What goes on from relax time `time` as `arm`."""
    return f"seed-{seed}/t{time:03d}/{arm}"


def snapshot(seed: int, time: int) -> str:
    """The CNN of a seed at `time`, below `runs`."""
    return f"{cnn_name(seed)}/snapshots/epoch-{time:03d}.safetensors"


def needs(task: Task, config: Config) -> list[str]:
    """The files below `runs` that must be there before `task` can start, but for the trainings that paths join."""
    return [snapshot(task.seed, task.start)] if task.relaxes else []


def joined(task: Task, config: Config) -> list[Task]:
    """The trainings whose ends the paths of a relax time join: the control CNN's, where there is one, and each follower's."""
    arms = ("CNN", *config.relax.followers) if task.arm == "paths" else ()
    return [other for other in tasks(config) if (other.seed, other.start) == (task.seed, task.start) and other.relaxes and other.arm in arms]


def made_of(task: Task, config: Config) -> dict[str, Any]:
    """What paths are drawn between and how: where it is no longer what their result says, they are done again."""
    measure = config.measure
    return {"ends": {end.arm: end.end for end in joined(task, config)}, "images": measure.path_images, "string_steps": measure.string_steps}


def settings(task: Task, config: Config) -> dict[str, Any]:
    """All that decides what the task computes, but for how long it goes on and which others there are."""
    decides = {
        "data": config.data.model_dump(mode="json", exclude={"folder"}),
        "network": config.network.model_dump(mode="json"),
        "cnn": config.cnn.model_dump(mode="json", exclude={"epochs"}),
    }
    if not task.is_cnn:
        decides["relax"] = config.relax.model_dump(mode="json", exclude={"times", "followers", "controls", "epochs"})
    return decides


def support(arm: str) -> Support:
    """The support of an arm's mapping; None for the CNN itself."""
    if arm == "CNN":
        return None
    if arm == "eLCN":
        return "local"
    return int(arm.removeprefix("halo-")) if arm.startswith("halo-") else "full"
