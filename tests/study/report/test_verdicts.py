"""What the report says of a study whose numbers are known: differences, their errors and the verdicts on the paper's claims."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efcn_kernels.study.report import texts
from efcn_kernels.study.report.claims import Claim, judge
from efcn_kernels.study.report.compare import Difference, against_rival, difference
from efcn_kernels.study.report.costs import slower
from efcn_kernels.study.report.gather import Found, Study
from efcn_kernels.study.report.main_figure import final_accuracy
from efcn_kernels.study.report.numbers import comparisons
from efcn_kernels.study.run import plan
from efcn_kernels.study.run.workspace import Workspace
from tests.support.small_study import config


def test_differences_by_hand() -> None:
    apart = difference({0: 0.6, 1: 0.7, 5: 0.9}, {0: 0.5, 1: 0.5}, 100)
    assert apart is not None
    assert (round(apart.value, 12), apart.seeds, apart.sign) == (0.15, 2, 1)
    # p = 0.65 and 0.5 on 100 images: sqrt(0.2275 / 100 + 0.25 / 100)
    assert apart.error == pytest.approx((0.004775) ** 0.5)
    # three seeds that disagree: their own spread is larger
    wide = difference({0: 0.9, 1: 0.5, 2: 0.4}, {0: 0.5, 1: 0.5, 2: 0.5}, 10_000)
    assert wide is not None
    # beside it the test set's, sqrt(0.24 / 10,000 + 0.25 / 10,000)
    assert wide.error == pytest.approx((0.07 / 3 + 0.000049) ** 0.5)
    assert wide.sign == 0
    # t of two degrees of freedom at 97.725 %: 4.527 standard errors
    assert wide.margin == pytest.approx(4.527 * wide.error, rel=1e-2)
    # three seeds that agree: what is left is the test set's error
    narrow = difference({0: 0.6, 1: 0.6, 2: 0.6}, {0: 0.5, 1: 0.5, 2: 0.5}, 10_000)
    assert narrow is not None
    assert narrow.margin == pytest.approx(2 * 0.007)
    assert difference({0: 0.6}, {1: 0.5}, 100) is None
    assert str(Difference(-0.0123, 0.004, 1)) == "-1.23 ± 0.40 points"


def test_ends_are_compared_image_by_image(tmp_path: Path) -> None:
    """Four images in five say nothing of the difference, so its error is smaller than that of independent networks."""
    study = _invented(tmp_path, {"eLCN": {0: 0.8, 1: 0.8}, "CNN": {None: 0.5, 0: 0.7, 1: 0.7}})
    bound = against_rival(study, "eLCN", 0)
    assert bound is not None
    assert bound.error == pytest.approx((0.16 / 10_000 + 0.21 / 10_000) ** 0.5)
    image = np.arange(100) % 10
    for arm, right in (("eLCN", image < 8), ("CNN", (image < 6) | (image == 9))):
        np.savez(tmp_path / "runs" / "seed-0" / "t000" / arm / "answers.npz", right=right)
    found = against_rival(study, "eLCN", 0)
    assert found is not None
    # 2 images of 10 by the eLCN alone, 1 by the CNN alone: E d = 0.1, E d^2 = 0.3
    assert found.value == bound.value
    assert found.error == pytest.approx((0.3 - 0.01) ** 0.5 / 10)
    # at the other relax time they were not kept
    assert against_rival(study, "eLCN", 1) == bound


def test_seeds_are_averaged_image_by_image(tmp_path: Path) -> None:
    """Two seeds that err on the same images are no better than one, and two that err on others are."""
    study = _invented(tmp_path, {"eLCN": {0: 0.6}, "CNN": {None: 0.5, 0: 0.5}}, seeds=(0, 1))
    image = np.arange(100) % 10
    errors = []
    for second in (image < 6, image >= 4):
        for seed, right in ((0, image < 6), (1, second)):
            np.savez(tmp_path / "runs" / f"seed-{seed}" / "t000" / "eLCN" / "answers.npz", right=right)
            np.savez(tmp_path / "runs" / f"seed-{seed}" / "t000" / "CNN" / "answers.npz", right=np.zeros(100, bool))
        found = against_rival(study, "eLCN", 0)
        assert found is not None
        assert found.seeds == 2
        errors.append(found.error)
    # 0.6 of the images differ by 1; 0.2 by 1 and 0.8 by a half
    assert errors == [pytest.approx(0.24**0.5 / 10), pytest.approx((0.2 + 0.8 / 4 - 0.36) ** 0.5 / 10)]


def _invented(
    folder: Path,
    ends: dict[str, dict[int | None, float]],
    delta: float = 0.1,
    controls: tuple[str, ...] = ("CNN", "FCN"),
    seeds: tuple[int, ...] = (0,),
    epochs: tuple[int, int] = (75, 50),
) -> Study:
    """A finished study with these final accuracies by arm and relax time, on 10,000 test images."""
    wanted = config(
        data={"test_images": 10_000},
        cnn={"epochs": epochs[0]},
        relax={"times": (0, 1), "followers": ("eLCN", "eFCN"), "controls": controls, "epochs": epochs[1]},
        run={"seeds": seeds},
    )
    workspace = Workspace(folder, wanted)
    workspace.open()
    for task in plan.tasks(wanted):
        end = ends.get(task.arm, {}).get(task.start if task.relaxes else None)
        if end is None:
            continue
        workspace.claim(task)
        measured: dict[str, Any] = {
            "sharing": {"whole": 0.2},
            "delta": {"whole": 0.97 if task.arm == "FCN" else delta},
            "distance_to_cnn": delta,
            "norms": {"whole": 1.0},
            "without_off_local": {"accuracy": end - 0.1},
            "without_local": {"accuracy": 0.15},
        }
        workspace.journal(task).append({"epoch": task.end, "test_accuracy": end, "seconds": 1.0, "measured": measured})
        result = {"status": "finished", "end": task.end, "measured": {"sizes": {"weights": 10, "dense_weights": 100}}}
        (workspace.folder(task) / "result.json").write_text(json.dumps(result))
    return Study(folder)


def _verdicts(study: Study) -> dict[str, Claim]:
    return {claim.title.split()[0]: claim for claim in judge(study)}


def test_verdicts_follow_the_numbers(tmp_path: Path) -> None:
    both: dict[str, dict[int | None, float]] = {
        "CNN": {None: 0.70, 0: 0.70, 1: 0.74},
        "eLCN": {0: 0.70, 1: 0.70},
        "eFCN": {0: 0.66, 1: 0.75},
        "FCN": {None: 0.60},
    }
    found = _verdicts(_invented(tmp_path / "a", both))
    assert {number: claim.verdict for number, claim in found.items()} == {
        "1.": "supported",
        "1a.": "supported",
        "2.": "supported",
        # better than the CNN that was never stopped, but not than the control
        "3.": "supported",
        "3a.": "not supported",
        "3b.": "not supported",
        "3c.": "not supported",
        "4.": "supported",
        "5.": "not tested",
        # all epochs take the same time
        "6.": "not supported",
    }
    assert "+1.00 ± 0.62 points from t_w = 1" in found["3a."].text
    assert "better at 0, worse at 1 of 2 relax times (1 seed" in found["3a."].text
    # 1 - 0.97725^2
    assert "one or more of 2 would look better by chance in 4% of such studies" in found["3."].text
    found = _verdicts(_invented(tmp_path / "b", both | {"eFCN": {0: 0.55, 1: 0.75}}, delta=0.8))
    assert (found["1."].verdict, found["2."].verdict) == ("not supported", "mixed")
    assert found["5."].verdict == "not supported"


@pytest.mark.parametrize(
    ("epochs", "why"),
    [
        ((75, 49), "the followers trained for 49 epochs, the paper's for 100"),
        ((74, 50), "the CNN trained for 74 epochs, the paper's for 150"),
        ((2, 1), "the CNN trained for 2 epochs, the paper's for 150 and the followers trained for 1 epoch, the paper's for 100"),
    ],
)
def test_short_trainings_give_numbers_but_no_verdict(tmp_path: Path, epochs: tuple[int, int], why: str) -> None:
    ends: dict[str, dict[int | None, float]] = {"CNN": {None: 0.70, 0: 0.70, 1: 0.70}, "eFCN": {0: 0.75, 1: 0.75}}
    study = _invented(tmp_path, ends, controls=("CNN",), epochs=epochs)
    found = _verdicts(study)
    # what an epoch costs does not hang on how many there were
    assert {number for number, claim in found.items() if claim.verdict != "not tested"} == {"6."}
    assert found["3a."].text.startswith(f"Too early to say: {why}. So far: Final test accuracy of the eFCN minus that of the control CNN: +5.00")
    # and what was not looked at at all says that
    assert found["2."].text == "These runs cannot say: no FCN is part of this study."
    assert texts.in_short(study)[0] == f"Too early for verdicts: {why}."
    long_enough = _invented(tmp_path / "long", ends, controls=("CNN",))
    assert _verdicts(long_enough)["3a."].verdict == "supported"
    assert "Too early" not in "".join(texts.in_short(long_enough))


def test_the_comparison_is_with_the_control(tmp_path: Path) -> None:
    study = _invented(tmp_path, {"CNN": {None: 0.70, 0: 0.70, 1: 0.74}, "eLCN": {0: 0.70, 1: 0.72}, "eFCN": {1: 0.75}})
    rows = {(row.arm, row.time): row for row in comparisons(study)}
    assert set(rows) == {("eLCN", 0), ("eLCN", 1), ("eFCN", 1)}
    worse = rows["eLCN", 1]
    assert (worse.follower, worse.rival, worse.verdict) == (0.72, 0.74, "worse")
    assert rows["eLCN", 0].verdict == "no difference seen"
    assert (round(worse.late, 12), worse.best) == (-0.02, (0.72, 0.74))
    # an epoch that the loss leapt up in moves the end, not the median of the last ones
    leaping = [0.70, 0.71, 0.72, 0.30]
    rows_by_epoch = [{"epoch": epoch, "test_accuracy": value, "measured": {}} for epoch, value in enumerate([0.1, *leaping])]
    assert Found(plan.tasks(study.config)[0], rows_by_epoch, None).late == leaping
    assert slower(study, "eLCN") == [1.0, 1.0]
    lines = texts.in_short(study)
    assert "at 0 of 2 relax times and worse at 1" in lines[0]
    assert "-2.00 to +0.00 percentage points" in lines[0]
    assert "at its best epoch, chosen on the test set: -2.00 to +0.00." in lines[0]
    assert "at 0 of 1 relax time (1 more not finished)" in lines[1]
    # the formula by hand
    assert "sqrt(0.70 · 0.30 / 10,000) = 0.46 percentage points" in texts.noise(study)
    without = _invented(tmp_path / "without", {}, controls=("FCN",))
    assert "75 epochs with learning rate 0.1, a follower t_w of them and 50 with 0.05" in texts.main(without)
    figure = final_accuracy(study)
    assert figure is not None
    assert len(figure.axes[1].containers) == 3


def test_what_diverged_is_said_first(tmp_path: Path) -> None:
    study = _invented(tmp_path, {"CNN": {None: 0.70, 0: 0.70, 1: 0.74}, "eLCN": {0: 0.70, 1: 0.72}, "eFCN": {1: 0.3}})
    assert "diverged" not in "".join(texts.in_short(study)) + texts.main(study)
    (tmp_path / "runs" / "seed-0" / "t001" / "eFCN" / "result.json").write_text(json.dumps({"status": "diverged", "end": 51, "reason": "nan"}))
    study = Study(tmp_path)
    lines = texts.in_short(study)
    assert lines[1] == "The eFCN diverged from t_w = 1 after epoch 51: its loss was no longer finite, so a smaller learning rate is needed."
    assert not any("Whether the eFCN" in line for line in lines)
    assert "What diverged has no point here" in texts.main(study)
    assert "no eFCN has finished" in _verdicts(study)["1."].text
