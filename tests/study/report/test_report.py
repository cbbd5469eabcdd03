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

import pytest

from efcn_kernels.study.report import write_report
from efcn_kernels.study.report.claims import judge
from efcn_kernels.study.report.figures import curves
from efcn_kernels.study.report.gather import Study
from efcn_kernels.study.report.main_figure import final_accuracy
from efcn_kernels.study.run.workspace import Workspace

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


def test_every_answer_is_kept(study: Path) -> None:
    for run in (found := Study(study)).runs:
        right = found.right(run)
        assert right is not None
        assert right.shape == (60,)
        assert right.mean() == run.accuracy
