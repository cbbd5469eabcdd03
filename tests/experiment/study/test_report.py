"""The report of a finished, an unfinished and no study; the page in a real browser where there is one."""

import base64
import csv
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efcn_kernels.experiment.report import texts, write_report
from efcn_kernels.experiment.report.claims import Claim, judge
from efcn_kernels.experiment.report.compare import Difference, against_rival, difference
from efcn_kernels.experiment.report.costs import slower
from efcn_kernels.experiment.report.figures import curves
from efcn_kernels.experiment.report.gather import Found, Study
from efcn_kernels.experiment.report.main_figure import final_accuracy
from efcn_kernels.experiment.report.numbers import comparisons
from efcn_kernels.experiment.study import plan
from efcn_kernels.experiment.study.workspace import Workspace

from .small import config

FIGURES = {"final-accuracy", "curves", "deviations", "masked-accuracy", "distances", "paths", "cost", *(f"heat-maps-001-{unit}" for unit in range(3))}
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def study(finished: Workspace) -> Path:
    """The folder of a finished study."""
    return finished.root


@pytest.fixture(scope="module")
def page(study: Path) -> Path:
    """Its report."""
    return write_report(study)


class _Parts(HTMLParser):
    """Headings, pictures and every address on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.pictures.append(given)
        self.addresses += [value for key, value in attrs if key in ("src", "href") and value]


def test_the_page_holds_all_that_it_shows(page: Path) -> None:
    parts = _Parts()
    parts.feed(page.read_text())
    assert len(parts.pictures) == len(FIGURES)
    assert all(address.startswith("data:") for address in parts.addresses)
    assert "@import" not in page.read_text()
    for picture in parts.pictures:
        assert picture["alt"]
        assert picture["src"] is not None
        content = base64.b64decode(picture["src"].split(",", 1)[1])
        assert content.startswith((b"\x89PNG", b"<?xml"))
        assert len(content) > 5_000


def test_figures_and_numbers_lie_beside_it(page: Path) -> None:
    names = {path.name for path in page.parent.iterdir()}
    assert names >= {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")} | {"epochs.csv", "finals.csv", "paths.csv"}
    finals, epochs = (list(csv.DictReader((page.parent / name).read_text().splitlines())) for name in ("finals.csv", "epochs.csv"))
    assert len(finals) == 7
    assert len(epochs) == 3 + 6 * 2
    for row in finals:
        last = [other for other in epochs if other["task"] == row["task"]][-1]
        assert row["status"] == "finished"
        assert (last["test_accuracy"], last["delta"]) == (row["test_accuracy"], row["delta"])
        assert row["weights"]


def test_it_says_what_was_run_and_every_claim(page: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", "", page.read_text()))
    for part in ("tw = 1 its", "one seed, so there are no bands", "on 60 test images", "3a. The same, with the control", "yes, all", "Not tested:"):
        assert part in text, part
    assert "t_w" not in text


def test_the_markdown_says_the_same(page: Path) -> None:
    """Every claim, every sentence of the page's lists and paragraphs, and pictures that lie beside it."""
    plain = re.sub(r"[*`]|<[^>]+>", "", (page.parent / "index.md").read_text())
    html = page.read_text()
    for words in re.findall(r"<(?:p|li|h2|h3|figcaption)>(.*?)</", html[: html.index("<details>")]):
        # up to the first mark inside of it
        assert unescape(words.split("<")[0]) in plain, words
    shown = re.findall(r"!\[.+?\]\((.+?)\)", (page.parent / "index.md").read_text())
    assert len(shown) == len(FIGURES)
    assert all((page.parent / name).is_file() for name in shown)


def test_the_same_study_gives_the_same_page(study: Path, page: Path, tmp_path: Path) -> None:
    assert write_report(study, tmp_path / "again").read_bytes() == page.read_bytes()


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here: apt-get install chromium")
def test_in_a_browser(page: Path, tmp_path: Path) -> None:
    """It renders without a console message or a request to anywhere, and every picture has a size."""
    probe = page.read_text().replace(
        "</body>",
        "<script>addEventListener('load', () => { document.title = JSON.stringify([...document.images].map(i => [i.naturalWidth, i.clientWidth])"
        ".concat([[document.documentElement.scrollWidth, innerWidth]])) })</script></body>",
    )
    path = tmp_path / "probe.html"
    path.write_text(probe)
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000"]
    command += [
        "--window-size=1100,800",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None
    *pictures, (wide, window) = json.loads(found.group(1))
    assert len(pictures) == len(FIGURES)
    assert all(natural > 100 and shown > 100 for natural, shown in pictures)
    assert wide <= window


def test_an_unfinished_study_is_reported_as_such(study: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(study, part, ignore=shutil.ignore_patterns("report", "*.safetensors"))
    (part / "runs" / "seed-0" / "t001" / "eFCN" / "result.json").unlink()
    diverged = part / "runs" / "seed-0" / "t001" / "halo-1" / "result.json"
    diverged.write_text(json.dumps({"status": "diverged", "start": 1, "end": 1, "reason": "the training loss became nan"}))
    text = write_report(part).read_text()
    for words in ("5 of 7 trainings have finished", "epoch 2 of 2", "diverged after epoch 1", "no eFCN has finished"):
        assert words in text
    # the picture says it too, and does not take the point for an end
    figure = final_accuracy(Study(part))
    assert figure is not None
    above, below = figure.axes
    assert [note.get_text() for note in above.texts] == ["epoch 2 of 2"]
    assert [note.get_text() for note in below.texts] == ["both at epoch 2"]
    assert "eFCN, not finished" in [line.get_label() for line in above.lines]
    assert "eFCN, going on from $t_w$" not in [line.get_label() for line in above.lines]
    # what is not in the first panel has its name too
    shown = curves(Study(part))
    assert shown is not None
    assert "eFCN" in [text.get_text() for text in shown.legends[0].get_texts()]
    # and with nothing but a configuration
    shutil.rmtree(part / "runs")
    text = write_report(part).read_text()
    assert "There are no data for this figure yet." in text
    assert all(claim.verdict == "not tested" for claim in judge(Study(part)))


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no study: it has no config.toml; expected a folder that efcn relax wrote"):
        write_report(tmp_path)


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


def test_every_answer_is_kept(study: Path) -> None:
    for run in (found := Study(study)).runs:
        right = found.right(run)
        assert right is not None
        assert right.shape == (60,)
        assert right.mean() == run.accuracy


def _invented(
    folder: Path,
    ends: dict[str, dict[int | None, float]],
    delta: float = 0.1,
    controls: tuple[str, ...] = ("CNN", "FCN"),
    seeds: tuple[int, ...] = (0,),
) -> Study:
    """A finished study with these final accuracies by arm and relax time, on 10,000 test images."""
    wanted = config(
        data={"test_images": 10_000},
        relax={"times": (0, 1), "followers": ("eLCN", "eFCN"), "controls": controls, "epochs": 1},
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
    assert "3 epochs with learning rate 0.1, a follower t_w of them and 1 with 0.05" in texts.main(without)
    figure = final_accuracy(study)
    assert figure is not None
    assert len(figure.axes[1].containers) == 3
