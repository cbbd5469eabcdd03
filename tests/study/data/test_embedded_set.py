"""The image set inside the package, and the script that cut it."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import efcn_kernels.study.data
from efcn_kernels.study.data.sets import ImageData, load

FOLDER = Path(efcn_kernels.study.data.__file__).parent / "embedded"
SCRIPT = Path(__file__).parents[3] / "examples" / "make_embedded_set.py"


def test_sizes_and_labels(embedded: ImageData) -> None:
    assert embedded.train_images.shape == (10_000, 1, 28, 28)
    assert embedded.test_images.shape == (2_000, 1, 28, 28)
    assert embedded.train_labels[:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]
    assert embedded.test_labels[:8].tolist() == [9, 2, 1, 1, 6, 1, 4, 6]
    assert torch.bincount(embedded.train_labels).min() > 900
    assert embedded.classes[9] == "ankle boot"
    normalised = embedded.normalised("train")
    assert abs(float(normalised.mean())) < 0.01
    assert abs(float(normalised.std()) - 1) < 0.01


def test_it_is_small_and_says_where_it_is_from() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for part in ("Zalando", "MIT", "1708.07747", "10,000", "2,000"):
        assert part in text


def test_it_needs_no_folder_and_no_network(tmp_path: Path) -> None:
    assert load("fashion-mnist-small", tmp_path / "nowhere", download=False).name == "fashion-mnist-small"
    assert not (tmp_path / "nowhere").exists()


def test_gzip_headers_carry_no_time() -> None:
    for path in FOLDER.glob("*.gz"):
        assert path.read_bytes()[4:8] == bytes(4)


def test_it_is_the_first_part_of_the_published_set(published: Callable[[str], ImageData], embedded: ImageData) -> None:
    whole = published("fashion-mnist")
    assert torch.equal(embedded.train_images, whole.train_images[:10_000])
    assert torch.equal(embedded.train_labels, whole.train_labels[:10_000])
    assert torch.equal(embedded.test_images, whole.test_images[:2_000])
    assert torch.equal(embedded.test_labels, whole.test_labels[:2_000])


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the examples are not part of an installed package")
def test_the_script_cuts_the_same_again(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_embedded_set", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # the embedded set is its own first part; another zlib may pack it differently, so contents are compared
    script.main(FOLDER, tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in FOLDER.glob("*.gz"))
    again = {path.name: script.gzip.decompress(path.read_bytes()) for path in tmp_path.iterdir()}
    assert again == {path.name: script.gzip.decompress(path.read_bytes()) for path in FOLDER.glob("*.gz")}
