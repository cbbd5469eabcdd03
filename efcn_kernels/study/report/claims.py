"""What the paper says, and whether these runs say it too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from efcn_kernels.study.config import CNN, Relax
from efcn_kernels.study.report.compare import Difference, difference, many, of_ends
from efcn_kernels.study.report.costs import sizes, slower
from efcn_kernels.study.report.gather import Found, Study, last_measured, mean

Verdict = Literal["supported", "not supported", "mixed", "not tested"]


# of the eLCN: half of what filters have that share nothing
_SHARED = 0.5
# of the paper's epochs, which are the defaults: trainings of fewer show where they were stopped, not where they lead
_LONG_ENOUGH = 0.5


@dataclass(frozen=True)
class Claim:
    """One claim of d'Ascoli et al. 2019 in our words, the verdict of these runs and why."""

    title: str
    verdict: Verdict
    text: str


def judge(study: Study) -> list[Claim]:
    """Every claim in the paper's order."""
    short = too_short(study)
    claims = [Claim(title, *verdict_of(study)) for title, verdict_of in _CLAIMS.items()]
    return [_put_off(claim, short) if short and claim.title != _SIZE else claim for claim in claims]


def too_short(study: Study) -> str | None:
    """Which of the trainings are too short for a verdict, in words."""
    ours, papers = study.config, {"CNN": CNN().epochs, "followers": Relax().epochs}
    lengths = {"CNN": ours.cnn.epochs, "followers": ours.relax.epochs}
    short = [name for name, epochs in lengths.items() if epochs < _LONG_ENOUGH * papers[name]]
    return " and ".join(f"the {name} trained for {many(lengths[name], 'epoch')}, the paper's for {papers[name]}" for name in short) or None


def _put_off(claim: Claim, short: str) -> Claim:
    if claim.verdict == "not tested":
        return claim
    return Claim(claim.title, "not tested", f"Too early to say: {short}. So far: {claim.text}")


def _stays_near(study: Study) -> tuple[Verdict, str]:
    ends = {time: _values(study.of("eFCN", time), "delta", "whole") for time in study.times}
    ends = {time: values for time, values in ends.items() if values}
    if not ends:
        return _nothing(_none(study, "eFCN"))
    means = {time: mean(values) for time, values in ends.items()}
    numbers = ", ".join(f"{value:.3f} from t_w = {time}" for time, value in means.items())
    fcn = _values(study.of("FCN"), "delta", "whole")
    reference = f"; an FCN has {mean(fcn):.3f}" if fcn else "; no FCN was run for comparison"
    limit = 0.5 * mean(fcn) if fcn else 0.5
    small = [value < limit for value in means.values()]
    verdict: Verdict = "supported" if all(small) else "mixed" if any(small) else "not supported"
    return (
        verdict,
        f"Delta of the eFCN at its end, live weights: {numbers}{reference}. Small means here less than {limit:.2f}.{_unfinished(study, len(ends))}",
    )


def _stays_shared(study: Study) -> tuple[Verdict, str]:
    ends = {time: _values(study.of("eLCN", time), "sharing", "whole") for time in study.times}
    means = {time: mean(values) for time, values in ends.items() if values}
    if not means:
        return _nothing(_none(study, "eLCN"))
    numbers = ", ".join(f"{value:.3f} from t_w = {time}" for time, value in means.items())
    small = [value < _SHARED for value in means.values()]
    verdict: Verdict = "supported" if all(small) else "mixed" if any(small) else "not supported"
    return verdict, (
        f"Sharing deviation of the eLCN at its end, 0 in a CNN and 1 where nothing is shared: {numbers}. Small means here less than "
        f"{_SHARED:g}.{_unfinished(study, len(means))}"
    )


def _beats(arm: str, rival: Callable[[Study, int], dict[int, Found]], name: str, every: bool) -> Callable[[Study], tuple[Verdict, str]]:
    """arm: a follower. every: at all relax times, not just at some."""

    def verdict_of(study: Study) -> tuple[Verdict, str]:
        found: dict[int, Difference] = {}
        for time in study.times:
            apart = of_ends(study, study.ends(arm, time), rival(study, time))
            if apart is not None:
                found[time] = apart
        if not found:
            absent = [each for each in (arm, name) if not _asked_for(study, each)]
            return _nothing(_none(study, absent[0]) if absent else f"no {arm} and {name} of the same seed have finished")
        signs = [apart.sign for apart in found.values()]
        won = sum(sign > 0 for sign in signs)
        if won and (won == len(signs) or not every):
            verdict: Verdict = "supported"
        else:
            verdict = "mixed" if won else "not supported"
        numbers = ", ".join(f"{apart} from t_w = {time}" for time, apart in found.items())
        # two standard errors and more above by chance: one in 44
        luck = 1 - 0.97725 ** len(signs)
        chance = f" Were there no difference, one or more of {len(signs)} would look better by chance in {luck:.0%} of such studies."
        return verdict, (
            f"Final test accuracy of the {arm} minus that of the {name}: {numbers}. Beyond two standard errors it is better at {won}, worse at "
            f"{sum(sign < 0 for sign in signs)} of {many(len(signs), 'relax time')} ({_seeds(found.values())})."
            f"{chance if won and len(signs) > 1 and not every else ''}{_unfinished(study, len(signs))}"
        )

    return verdict_of


def _templates(study: Study) -> tuple[Verdict, str]:
    parts, verdicts = [], []
    chance = 1 / (100 if study.config.data.name == "cifar100" else 10)
    for time in study.times:
        runs = [run for run in study.of("eFCN", time) if run.finished]
        whole = {run.task.seed: run.accuracy for run in runs}
        off = {run.task.seed: value for run in runs if (value := last_measured(run, "without_off_local", "accuracy")) is not None}
        local = [value for run in runs if (value := last_measured(run, "without_local", "accuracy")) is not None]
        helped = difference(whole, off, study.test_images)
        if helped is None or not local:
            continue
        alone = mean(local)
        # fails: closer to chance than to the whole network
        fails = alone - chance < 0.5 * (mean(list(whole.values())) - chance)
        verdicts.append(helped.sign > 0 and fails)
        parts.append(f"from t_w = {time} off-local weights alone reach {alone:.1%} and add {helped} to the local ones")
    if not parts:
        return _nothing(_none(study, "eFCN"))
    verdict: Verdict = "supported" if all(verdicts) else "mixed" if any(verdicts) else "not supported"
    return (
        verdict,
        f"Accuracy with a part of the weights at zero: {'; '.join(parts)}. Chance is {chance:.0%}. The heat maps show what they look like.",
    )


def _threshold(study: Study) -> tuple[Verdict, str]:
    fcn = study.ends("FCN")
    runs = [run for arm in study.config.relax.followers for time in study.times for run in study.of(arm, time) if run.finished]
    points = []
    for run in runs:
        apart = of_ends(study, {run.task.seed: run}, fcn)
        if apart is not None:
            points.append((relative_distance(run), apart.sign > 0))
    if not _asked_for(study, "FCN"):
        return _nothing(_none(study, "FCN"))
    if len(points) < 4:
        return _nothing(f"{len(points)} followers with an FCN of their seed have finished, at least 4 are needed")
    above, fallen = ([distance for distance, better in points if better is wanted] for wanted in (True, False))
    span = f"The followers end at relative distances {min(d for d, _ in points):.2f} to {max(d for d, _ in points):.2f} from the nearest CNN"
    if not fallen:
        return "not tested", f"{span}, and all of them better than the FCN: no run went so far that it fell to the FCN's accuracy."
    if not above:
        return "not supported", f"{span}, and none of them is better than the FCN, however near."
    verdict: Verdict = "supported" if max(above) < min(fallen) else "not supported"
    return verdict, f"{span}. Those better than the FCN end within {max(above):.2f}, those that are not from {min(fallen):.2f} on."


def _size(study: Study) -> tuple[Verdict, str]:
    parts, ratios = [], {}
    for arm in study.config.relax.followers:
        held, times = sizes([run for time in study.times for run in study.of(arm, time)]), slower(study, arm)
        if held is not None and times:
            ratios[arm] = float(median(times))
            fewer = held["dense_weights"] / held["weights"]
            holds = f"the {arm} stores {held['weights']:,} weights, dense matrices {fewer:.1f} times as many"
            parts.append(f"{holds}, and an epoch takes {ratios[arm]:.2f} times that of the {study.rival}")
    if not parts:
        return _nothing("no follower has finished")
    text = f"Here {'; '.join(parts)}."
    if "eFCN" not in ratios:
        return "not tested", f"{text} {_none(study, 'eFCN').capitalize()}.".replace("efcn", "eFCN")
    low, high = 2, 10
    verdict: Verdict = "not supported" if ratios["eFCN"] < low else "supported" if ratios["eFCN"] > high else "mixed"
    return verdict, f"{text} Below {low} times the CNN's epoch the size of the eFCN limits nothing, above {high} it does."


def relative_distance(run: Found) -> float:
    """Distance to the nearest CNN over the norm of the weights, at the end."""
    return float(last_measured(run, "distance_to_cnn") / last_measured(run, "norms", "whole"))


def _control(study: Study, time: int) -> dict[int, Found]:
    return study.ends("CNN", time)


def _never_stopped(study: Study, _: int) -> dict[int, Found]:
    return study.ends("CNN")


def _fcn(study: Study, _: int) -> dict[int, Found]:
    return study.ends("FCN")


def _values(runs: list[Found], *keys: str) -> list[float]:
    return [value for run in runs if run.finished and (value := last_measured(run, *keys)) is not None]


def _asked_for(study: Study, name: str) -> bool:
    """Whether networks of that name are part of the study, finished or not."""
    return name == "CNN never stopped" or name.removeprefix("control ") in (*study.config.relax.followers, *study.config.relax.controls)


def _none(study: Study, name: str) -> str:
    return f"no {name} has finished" if _asked_for(study, name) else f"no {name} is part of this study"


def _unfinished(study: Study, done: int) -> str:
    left = len(study.times) - done
    return f" {many(left, 'other relax time')} {'has' if left == 1 else 'have'} not finished." if left else ""


def _nothing(why: str) -> tuple[Verdict, str]:
    return "not tested", f"These runs cannot say: {why}."


def _seeds(found: Iterable[Difference]) -> str:
    counts = {apart.seeds for apart in found}
    if max(counts) < 3:
        return f"{max(counts)} seed{'s' if max(counts) > 1 else ''}: the error is that of the test set alone, the spread of seeds is not known"
    return f"{min(counts)} seeds or more"


_SIZE = "6. The size of the eFCN limits the practical interest of the protocol."
_CLAIMS: dict[str, Callable[[Study], tuple[Verdict, str]]] = {
    "1. Relaxed at any time, the eFCN stays near the CNN subspace.": _stays_near,
    "1a. Relaxed at any time, the filters of the eLCN stay near shared ones.": _stays_shared,
    "2. The eFCN ends better than a standard FCN of the same architecture.": _beats("eFCN", _fcn, "FCN", every=True),
    "3. Relaxed at some times, the eFCN ends better than the CNN it stems from.": _beats("eFCN", _never_stopped, "CNN never stopped", every=False),
    "3a. The same, with the control that the paper lacks: the CNN going on with the eFCN's learning rate.": _beats(
        "eFCN", _control, "control CNN", every=False
    ),
    "3b. The less drastic relaxation: the eLCN, sharing dropped and locality kept, ends better than the control CNN.": _beats(
        "eLCN", _control, "control CNN", every=False
    ),
    "3c. By the paper's own comparison: the eLCN ends better than the CNN that was never stopped.": _beats(
        "eLCN", _never_stopped, "CNN never stopped", every=False
    ),
    "4. Off-local weights learn templates that fail alone and help together with local features.": _templates,
    "5. Past a threshold distance from the CNN subspace, performance falls to that of an FCN.": _threshold,
    _SIZE: _size,
}
