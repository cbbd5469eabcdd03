"""What the paper says, and whether these runs say it too."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from .compare import Difference, difference
from .gather import Found, Study, last_measured, mean

Verdict = Literal["supported", "not supported", "mixed", "not tested"]


@dataclass(frozen=True)
class Claim:
    """One claim of d'Ascoli et al. 2019 in our words, the verdict of these runs and why."""

    title: str
    verdict: Verdict
    text: str


def judge(study: Study) -> list[Claim]:
    """Every claim in the paper's order."""
    found = []
    for title, verdict_of in _CLAIMS.items():
        verdict, text = verdict_of(study)
        found.append(Claim(title, verdict, text))
    return found


def _stays_near(study: Study) -> tuple[Verdict, str]:
    ends = {time: _values(study.of("eFCN", time), "delta", "whole") for time in study.times}
    ends = {time: values for time, values in ends.items() if values}
    if not ends:
        return _nothing("no eFCN has finished")
    means = {time: mean(values) for time, values in ends.items()}
    numbers = ", ".join(f"{value:.3f} from t_w = {time}" for time, value in means.items())
    fcn = _values(study.of("FCN"), "delta", "whole")
    reference = f"; an FCN has {mean(fcn):.3f}" if fcn else "; no FCN was run for comparison"
    limit = 0.5 * mean(fcn) if fcn else 0.5
    small = [value < limit for value in means.values()]
    verdict: Verdict = "supported" if all(small) else "mixed" if any(small) else "not supported"
    return verdict, f"Delta of the eFCN at its end, live weights: {numbers}{reference}. Small means here less than {limit:.2f}."


def _beats(arm: str, rival: Callable[[Study, int], dict[int, float]], name: str, every: bool) -> Callable[[Study], tuple[Verdict, str]]:
    """arm: a follower. every: at all relax times, not just at some."""

    def verdict_of(study: Study) -> tuple[Verdict, str]:
        found: dict[int, Difference] = {}
        for time in study.times:
            apart = difference(study.final(arm, time), rival(study, time), study.test_images)
            if apart is not None:
                found[time] = apart
        if not found:
            return _nothing(f"no {arm} and {name} of the same seed have finished")
        signs = [apart.sign for apart in found.values()]
        won = sum(sign > 0 for sign in signs)
        if won and (won == len(signs) or not every):
            verdict: Verdict = "supported"
        else:
            verdict = "mixed" if won else "not supported"
        numbers = ", ".join(f"{apart} from t_w = {time}" for time, apart in found.items())
        return verdict, (
            f"Final test accuracy of the {arm} minus that of the {name}: {numbers}. Beyond two standard errors it is better at {won}, worse at "
            f"{sum(sign < 0 for sign in signs)} of {len(signs)} relax times ({_seeds(found.values())})."
        )

    return verdict_of


def _templates(study: Study) -> tuple[Verdict, str]:
    parts, verdicts = [], []
    chance = 1 / (100 if study.config.data.name == "cifar100" else 10)
    for time in study.times:
        runs = [run for run in study.of("eFCN", time) if run.finished]
        whole = {run.task.seed: run.rows[-1]["test_accuracy"] for run in runs}
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
        return _nothing("no eFCN has finished")
    verdict: Verdict = "supported" if all(verdicts) else "mixed" if any(verdicts) else "not supported"
    return (
        verdict,
        f"Accuracy with a part of the weights at zero: {'; '.join(parts)}. Chance is {chance:.0%}. The heat maps show what they look like.",
    )


def _threshold(study: Study) -> tuple[Verdict, str]:
    fcn = study.final("FCN")
    runs = [run for arm in study.config.relax.followers for time in study.times for run in study.of(arm, time) if run.finished]
    points = []
    for run in runs:
        apart = difference({run.task.seed: run.rows[-1]["test_accuracy"]}, fcn, study.test_images)
        if apart is not None:
            points.append((relative_distance(run), apart.sign > 0))
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
    cnn = [run.seconds for run in study.of("CNN") if run.seconds]
    parts, slower = [], []
    for arm in study.config.relax.followers:
        runs = [run for time in study.times for run in study.of(arm, time) if run.finished and run.seconds]
        if runs and cnn and runs[0].result is not None:
            sizes = runs[0].result["measured"]["sizes"]
            slower.append(mean([run.seconds for run in runs if run.seconds]) / mean(cnn))
            fewer = sizes["dense_weights"] / sizes["weights"]
            holds = f"the {arm} stores {sizes['weights']:,} weights, dense matrices {fewer:.1f} times as many"
            parts.append(f"{holds}, and an epoch takes {slower[-1]:.1f} times the CNN's")
    if not parts:
        return _nothing("no follower has finished")
    low, high = 2, 10
    verdict: Verdict = "not supported" if max(slower) < low else "supported" if min(slower) > high else "mixed"
    return verdict, f"Here {'; '.join(parts)}. Below {low} times the CNN's epoch the size limits nothing, above {high} it does."


def relative_distance(run: Found) -> float:
    """Distance to the nearest CNN over the norm of the weights, at the end."""
    return float(last_measured(run, "distance_to_cnn") / last_measured(run, "norms", "whole"))


def _control(study: Study, time: int) -> dict[int, float]:
    return study.final("CNN", time)


def _never_stopped(study: Study, _: int) -> dict[int, float]:
    return study.final("CNN")


def _fcn(study: Study, _: int) -> dict[int, float]:
    return study.final("FCN")


def _values(runs: list[Found], *keys: str) -> list[float]:
    return [value for run in runs if run.finished and (value := last_measured(run, *keys)) is not None]


def _nothing(why: str) -> tuple[Verdict, str]:
    return "not tested", f"These runs cannot say: {why}."


def _seeds(found: Iterable[Difference]) -> str:
    counts = {apart.seeds for apart in found}
    if max(counts) < 3:
        return f"{max(counts)} seed{'s' if max(counts) > 1 else ''}: the error is that of the test set alone, the spread of seeds is not known"
    return f"{min(counts)} seeds or more"


_CLAIMS: dict[str, Callable[[Study], tuple[Verdict, str]]] = {
    "1. Relaxed at any time, the eFCN stays near the CNN subspace.": _stays_near,
    "2. The eFCN ends better than a standard FCN of the same architecture.": _beats("eFCN", _fcn, "FCN", every=True),
    "3. Relaxed at some times, the eFCN ends better than the CNN it stems from.": _beats("eFCN", _never_stopped, "CNN never stopped", every=False),
    "3a. The same, with the control that the paper lacks: the CNN going on with the eFCN's learning rate.": _beats(
        "eFCN", _control, "control CNN", every=False
    ),
    "3b. The less drastic relaxation: the eLCN, sharing dropped and locality kept, ends better than that control.": _beats(
        "eLCN", _control, "control CNN", every=False
    ),
    "4. Off-local weights learn templates that fail alone and help together with local features.": _templates,
    "5. Past a threshold distance from the CNN subspace, performance falls to that of an FCN.": _threshold,
    "6. The size of the eFCN limits the practical interest of the protocol.": _size,
}
