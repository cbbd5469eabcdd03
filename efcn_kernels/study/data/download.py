"""Fetching the published files: pooch, checksums, a progress bar, and one sentence when there is no network."""

from __future__ import annotations

import hashlib
import logging
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from efcn_kernels.study.data import cifar
from efcn_kernels.study.data.catalog import DatasetSpec
from efcn_kernels.study.data.errors import DataError, MissingDataError

_CHUNK = 1 << 20


def download(spec: DatasetSpec, root: Path, console: Console | None = None, note: str = "") -> Path:
    """Fetch the files of `spec` into its folder under `root` and return that folder.

    `note` is a clause for the error message, on what is there. A file that is there already with the right md5 is kept, so an interrupted
    download goes on with the next one. Raises MissingDataError if the network or the server fails, DataError if a fetched file has a wrong
    checksum or the folder cannot be written.
    """
    import pooch  # type: ignore[import-untyped]
    import requests

    # idx sets are single files in the set's folder; the CIFAR archives bring their own folder
    archive = spec.layout != "idx"
    target = root if archive else root / spec.folders[0]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, md5 in spec.downloads.items():
            with _bar(console, name) as bar, _quiet(pooch.get_logger()):
                pooch.retrieve(
                    url=spec.base_url + name,
                    known_hash=f"md5:{md5}",
                    fname=name,
                    path=target,
                    downloader=pooch.HTTPDownloader(progressbar=bar, timeout=30, chunk_size=_CHUNK),
                )
    # requests' errors are OSErrors, so this clause comes first
    except requests.RequestException as error:
        raise MissingDataError(what_to_put_where(spec, root, f"{note}the download failed ({type(error).__name__})")) from error
    except ValueError as error:
        raise DataError.of(target / name, f"a download from {spec.base_url} with another checksum", f"md5 {md5}") from error
    except OSError as error:
        raise DataError.of(target, f"a folder that cannot be written ({error.strerror})", "one that can: choose another data folder") from error
    if not archive:
        return target
    folder = unpack(spec, root)
    (root / next(iter(spec.downloads))).unlink()
    return folder


def unpack(spec: DatasetSpec, root: Path) -> Path:
    """Unpack the checked archive of `spec` that lies in `root` and return the folder of its files.

    Only the members that the reader needs are written, under their own plain names. Raises DataError.
    """
    ((name, md5),) = spec.downloads.items()
    archive, folder = root / name, root / spec.folders[0]
    found = _md5(archive)
    if found != md5:
        raise DataError.of(archive, f"md5 {found}", f"{md5}; delete the file to have it downloaded again")
    wanted = {f"{folder.name}/{stem}" for stem in cifar.binary_names(spec)}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() and member.name in wanted else None
                if source is not None:
                    _write(folder / Path(member.name).name, source.read())
    except (tarfile.TarError, EOFError) as error:
        raise DataError.of(archive, f"an archive that cannot be read ({error})", "a whole tar.gz file") from error
    except OSError as error:
        raise DataError.of(folder, f"a folder that cannot be written ({error})", "one that can: choose another data folder") from error
    lacking = cifar.missing(spec, folder)
    if lacking:
        raise DataError.of(archive, f"no {', '.join(lacking)} inside", f"the files {', '.join(sorted(wanted))}")
    return folder


def what_to_put_where(spec: DatasetSpec, root: Path, why: str) -> str:
    """The one sentence for a set that is nowhere."""
    target = root if spec.layout != "idx" else root / spec.folders[0]
    files = ", ".join(spec.downloads)
    return (
        f"{spec.name} is not in {root}; {why}: put {files} from {spec.base_url} into {target}, "
        "or name the folder that holds the files (data_dir, --data-dir, a study's data.folder, or EFCN_DATA)."
    )


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write through a temporary name, so that an interruption leaves no half file under the real one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


class _Bar:
    """The progress object that pooch expects, drawn by rich."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._task, self.total = progress, progress.add_task(name, total=None), 0

    def update(self, amount: int) -> None:
        self._progress.update(self._task, advance=amount, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """Rich closes the bar itself."""


@contextmanager
def _bar(console: Console | None, name: str) -> Iterator[_Bar | bool]:
    if console is None:
        yield False
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, name)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """pooch announces each download and suggests checksums; nothing here prints except the console."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
