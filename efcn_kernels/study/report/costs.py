"""What each network costs: weights, memory, time, beside its CNN and beside dense matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from efcn_kernels.study.report.gather import Found, Study


def slower(study: Study, arm: str) -> list[float]:
    """How many times its rival's epoch a follower's epoch takes, for each pair of the same seed and relax time."""
    return [a.seconds / b.seconds for time in study.times for a, b in study.pairs(arm, time) if a.seconds and b.seconds]


def sizes(runs: Sequence[Found]) -> dict[str, Any] | None:
    """Weights and bytes as one of these trainings noted them at its end."""
    return next((run.result["measured"]["sizes"] for run in runs if run.finished and run.result), None)


def rows(study: Study) -> list[list[str]]:
    """One row for each kind of network that has trained: stored weights, dense ones, seconds of an epoch, and its ratio to the CNN's."""
    found = []
    for name, arm, runs in _kinds(study):
        seconds = [run.seconds for run in runs if run.seconds is not None]
        if not seconds:
            continue
        held = sizes(runs)
        weights = (
            [f"{held[key]:,}" if key.endswith("weights") else f"{held[key] / 2**20:,.1f}" for key in _SIZES] if held else ["not yet"] * len(_SIZES)
        )
        ratios = slower(study, arm) if arm in study.config.relax.followers else []
        found.append([name, *weights, f"{np.median(seconds):.1f}", f"{np.median(ratios):.2f}" if ratios else "1" if name == study.rival else ""])
    return found


def beside(study: Study) -> str:
    """The ratios in words."""
    parts = []
    for arm in study.config.relax.followers:
        ratios = slower(study, arm)
        if ratios:
            span = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
            parts.append(f"an epoch of the {arm} takes {np.median(ratios):.2f} times that of its {study.rival}{span}")
    if not parts:
        return "No follower and its CNN have trained yet, so their times cannot be compared."
    pairs = "of the same seed and relax time" if "CNN" in study.config.relax.controls else "of the same seed"
    many = study.config.run.processes
    shared = f"{many} trainings shared the machine at a time" if many > 1 else "one training ran at a time"
    text = "; ".join(parts)
    return (
        f"{text[0].upper()}{text[1:]}: the median over pairs {pairs}, each with its median over epochs; {shared}. "
        "Seconds are those of the training pass, without the measurements after it."
    )


_SIZES = ("weights", "weight_bytes", "dense_weights", "dense_bytes")


def _kinds(study: Study) -> list[tuple[str, str, list[Found]]]:
    """(name, arm, trainings) of every kind of network."""
    found = [("CNN never stopped", "CNN", study.of("CNN"))]
    if study.of("FCN"):
        found.append(("FCN", "FCN", study.of("FCN")))
    relaxed = [("control CNN" if arm == "CNN" else arm, arm, [run for time in study.times for run in study.of(arm, time)]) for arm in study.relaxed]
    return found + relaxed
