"""Downloading from a server on this machine: good and bad files, archives, and no server at all."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from efcn_kernels.study.data import catalog
from efcn_kernels.study.data.sets import DataError, MissingDataError, load
from tests.support.image_files import TRAIN


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A test's output is no place for a server's log."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def _publish(monkeypatch: pytest.MonkeyPatch, name: str, url: str, folder: Path) -> None:
    """Make `folder` the origin of the set `name`, with the checksums of what lies there."""
    spec = catalog.CATALOG[name]
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    monkeypatch.setitem(catalog.CATALOG, name, replace(spec, base_url=url, downloads=sums))


def test_idx_files_arrive_with_a_progress_bar(
    tmp_path: Path, served: tuple[Path, str], write_idx: Callable[..., dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = write_idx(served[0])
    _publish(monkeypatch, "mnist", served[1], served[0])
    console = Console(file=io.StringIO(), width=100)
    target = tmp_path / "new" / "data"
    data = load("mnist", target, partial=True, console=console)
    np.testing.assert_array_equal(data.train_images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert sorted(path.name for path in (target / "mnist").iterdir()) == sorted(path.name for path in served[0].iterdir())
    assert isinstance(console.file, io.StringIO)
    assert "train-images-idx3-ubyte.gz" in console.file.getvalue()
    # the second time nothing is fetched
    for path in served[0].iterdir():
        path.unlink()
    assert len(load("mnist", target, partial=True).train_labels) == TRAIN


def test_an_interrupted_download_goes_on(
    tmp_path: Path, served: tuple[Path, str], write_idx: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(served[0])
    _publish(monkeypatch, "mnist", served[1], served[0])
    already = served[0] / "train-images-idx3-ubyte.gz"
    (tmp_path / "mnist").mkdir()
    already.rename(tmp_path / "mnist" / already.name)
    assert len(load("mnist", tmp_path, partial=True).train_labels) == TRAIN


def test_without_a_folder_the_cache_is_used(served: tuple[Path, str], write_idx: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(served[0])
    _publish(monkeypatch, "mnist", served[1], served[0])
    load("mnist", partial=True)
    assert len(load("mnist", download=False, partial=True).train_labels) == TRAIN


def test_a_wrong_checksum_is_refused_and_not_kept(
    tmp_path: Path, served: tuple[Path, str], write_idx: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(served[0])
    _publish(monkeypatch, "mnist", served[1], served[0])
    (served[0] / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: found a download .* with another checksum; expected md5 \w{32}"):
        load("mnist", tmp_path, partial=True)
    assert not (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").exists()


@pytest.mark.parametrize(("name", "classes", "inside"), [("cifar10", 10, "cifar-10-batches-bin"), ("cifar100", 100, "cifar-100-binary")])
def test_archives_are_unpacked(
    tmp_path: Path,
    served: tuple[Path, str],
    write_cifar: Callable[..., tuple[np.ndarray, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    classes: int,
    inside: str,
) -> None:
    pixels, _ = write_cifar(tmp_path / "made", classes, "binary")
    _pack(served[0] / next(iter(catalog.CATALOG[name].downloads)), tmp_path / "made", inside)
    _publish(monkeypatch, name, served[1], served[0])
    data = load(name, tmp_path / "data", partial=True)
    np.testing.assert_array_equal(data.train_images.flatten(1).numpy(), pixels)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [inside]
    # members that climb out of the folder are never written
    assert not (tmp_path / "escaped.bin").exists()


def test_an_archive_that_lies_there_is_used(
    tmp_path: Path, served: tuple[Path, str], write_cifar: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path / "made", 10, "binary")
    archive = served[0] / "cifar-10-binary.tar.gz"
    _pack(archive, tmp_path / "made", "cifar-10-batches-bin")
    _publish(monkeypatch, "cifar10", "http://127.0.0.1:9/", served[0])
    assert len(load("cifar10", served[0], download=False, partial=True).train_labels) == 15
    archive.write_bytes(b"something else")
    for path in (served[0] / "cifar-10-batches-bin").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: found md5 \w+; expected \w+; delete the file"):
        load("cifar10", served[0], download=False, partial=True)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar100"])
def test_offline_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # nothing listens on the discard port
    monkeypatch.setitem(catalog.CATALOG, name, replace(catalog.CATALOG[name], base_url="http://127.0.0.1:9/"))
    with pytest.raises(MissingDataError) as caught:
        load(name, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "the download failed (ConnectionError)" in text
    assert str(tmp_path) in text
    assert all(file in text for file in catalog.CATALOG[name].downloads)


def test_offline_with_one_file_forgotten(tmp_path: Path, write_idx: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.CATALOG, "mnist", replace(catalog.CATALOG["mnist"], base_url="http://127.0.0.1:9/"))
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(MissingDataError, match=r"MNIST/raw lacks t10k-images-idx3-ubyte\.gz, and the download failed"):
        load("mnist", tmp_path)


def test_a_missing_page_is_the_same_sentence(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.CATALOG, "mnist", replace(catalog.CATALOG["mnist"], base_url=served[1]))
    with pytest.raises(MissingDataError, match=r"the download failed \(HTTPError\): put train-images"):
        load("mnist", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.CATALOG, "mnist", replace(catalog.CATALOG["mnist"], base_url=served[1]))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="a folder that cannot be written"):
        load("mnist", tmp_path / "file")


def _pack(archive: Path, folder: Path, inside: str) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, f"{inside}/{path.name}")
        tar.add(path, f"{inside}/../../escaped.bin")
