"""What a person sees of a study: the share that is done, the time left, a line for each task."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from efcn_kernels.study.run import plan
from efcn_kernels.study.run.estimate import Done, Estimate, estimate
from efcn_kernels.study.run.plan import Task
from efcn_kernels.study.run.progress import Display
from efcn_kernels.study.run.scheduler import run_study
from efcn_kernels.study.run.workspace import Workspace
from tests.support.small_study import config

CNN, FOLLOWER, OTHER = Task("CNN", "CNN", 0, 0, 10), Task("eLCN", "eLCN", 0, 1, 11), Task("eFCN", "eFCN", 0, 1, 11)
PATHS = Task("paths", "paths", 0, 1, 1)


def test_by_hand() -> None:
    # one second an epoch, then four
    found = estimate([CNN, FOLLOWER, PATHS], {"CNN": Done(0.5, 5.0), "eLCN": Done(0.25, 10.0)}, [CNN, FOLLOWER], 2)
    assert (round(found.share, 12), found.seconds, found.least) == ((5 + 10) / 50, 30.0, False)
    # one after the other
    assert estimate([CNN, FOLLOWER], {"CNN": Done(0.5, 5.0), "eLCN": Done(0.25, 10.0)}, [CNN], 1).seconds == 35.0
    # what is done takes no time, and tells how long its kind takes
    again = Task("again", "eLCN", 0, 3, 8)
    found = estimate([FOLLOWER, again], {"eLCN": Done(1.0, 40.0)}, [], 2)
    assert (round(found.share, 12), found.seconds, found.least) == (round(40 / 60, 12), 20.0, False)


def test_a_kind_that_has_not_begun_is_as_slow_as_the_slowest() -> None:
    found = estimate([CNN, FOLLOWER, OTHER], {"CNN": Done(1.0, 10.0), "eLCN": Done(1.0, 40.0)}, [], 2)
    assert (found.share, found.seconds, found.least) == (50 / 90, 40.0, True)
    assert str(found) == "at least 1 min left"
    # before the first epoch: by epochs alone
    found = estimate([CNN, FOLLOWER], {"CNN": Done(0.05, 99.0)}, [CNN], 1)
    assert (round(found.share, 12), found.seconds, str(found)) == (0.5 / 20, None, "")
    assert estimate([PATHS], {}, [], 1).share == 0.0


def test_the_last_training_is_not_shared_out() -> None:
    """Three trainings of the same length on two hands take two lengths, not one and a half."""
    three = [Task(f"{i}", "CNN", i, 0, 10) for i in range(3)]
    assert estimate(three, {"0": Done(0.1, 1.0)}, three[:2], 2).seconds == pytest.approx(9.0 + 10.0 + 0.0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, ""), (20.0, "less than a minute left"), (150.0, "about 2 min left"), (7500.0, "about 2:05 h left")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert str(Estimate(0.5, seconds, least=False)) == words


def _said(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [re.sub(r"^\d\d:\d\d ", "", line) for line in console.file.getvalue().splitlines()]


def test_a_log_gets_a_line_for_each_task(tmp_path: Path) -> None:
    wanted = config(cnn={"epochs": 1}, relax={"epochs": 1, "learning_rate": 1e6})
    console = Console(file=io.StringIO())
    workspace = run_study(wanted, tmp_path, console)
    first, cnn, follower = _said(console)
    assert first == f"{tmp_path}: 2 tasks"
    assert re.fullmatch(r"seed-0/CNN finished in \d+ s, test accuracy \d+\.\d\d%; 1 of 2 tasks done, less than a minute left", cnn)
    assert follower.startswith("seed-0/t001/halo-1 diverged after epoch 1: the training loss became")
    assert follower.endswith("; 2 of 2 tasks done")
    console = Console(file=io.StringIO())
    run_study(wanted, tmp_path, console)
    assert _said(console) == [f"{tmp_path}: 2 tasks, 2 of them done before"]
    # a failure is said when it happens
    console = Console(file=io.StringIO())
    with Display(console, workspace) as display:
        display.ended(plan.tasks(wanted)[1], RuntimeError("the disk [is] full"), [], 1)
        display.ended(plan.tasks(wanted)[1], KeyboardInterrupt(), [], 1)
    assert _said(console)[1:] == ["seed-0/t001/halo-1 failed: the disk [is] full"]


def test_a_terminal_gets_bars(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    wanted = config(cnn={"epochs": 2}, relax={"epochs": 1})
    workspace = run_study(wanted, tmp_path, console)
    cnn = plan.tasks(wanted)[0]
    with Display(console, workspace) as display:
        display.show([cnn], 1)
        whole, task = display._bars.tasks
        assert (whole.completed, whole.fields["note"]) == (whole.total, "2 of 2 tasks done")
        assert (task.description, task.completed, task.fields["note"]) == (cnn.name, task.total, "epoch 2 of 2")
        display.show([], 1)
        assert len(display._bars.tasks) == 1
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for words in ("whole study", "seed-0/CNN finished in"):
        assert words in shown, words


def test_what_an_extension_adds_is_left_to_do(tmp_path: Path) -> None:
    run_study(config(cnn={"epochs": 1}, relax={"epochs": 1}), tmp_path)
    with Display(None, Workspace(tmp_path, config(cnn={"epochs": 1}, relax={"epochs": 3}))) as display:
        # the CNN's epoch is over, and one of the follower's three
        estimated = display._estimated([], 1)
        rates = [display.workspace.progress(task) for task in display._all]
    cnn, follower = (progress["seconds"] for progress in rates if progress is not None)
    assert estimated.seconds == pytest.approx(2 * follower)
    assert estimated.share == pytest.approx((cnn + follower) / (cnn + 3 * follower))


def test_progress_that_is_being_written_is_none(tmp_path: Path) -> None:
    workspace = run_study(config(cnn={"epochs": 1}, relax={"epochs": 1}), tmp_path)
    task = plan.tasks(workspace.config)[0]
    path = workspace.folder(task) / "progress.json"
    progress = workspace.progress(task)
    assert progress is not None
    assert progress["epochs"] == 1
    assert progress["seconds"] > 0
    path.write_text(path.read_text()[:10])
    assert workspace.progress(task) is None
