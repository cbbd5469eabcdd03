"""Progress bars on a console, or nothing at all."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from efcn_kernels.study.train.epoch import Progress as Advance


@contextmanager
def epoch_bar(console: Console | None, title: str, images: int) -> Iterator[Advance | None]:
    """A bar over `images` images named `title`; yields what moves it on, or None without a console."""
    if console is None:
        yield None
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=images)
        yield lambda done: progress.update(task, advance=done)


def busy(console: Console | None, what: str) -> AbstractContextManager[object]:
    """A spinner named `what`, for what takes a few seconds and has no parts to count."""
    return nullcontext() if console is None else console.status(what)
