"""The examples that take long: their sizes as documented, and a run at a small size."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from efcn_kernels import LocallyConnected2d

ALEXNET = Path(__file__).parents[1] / "examples" / "alexnet_224.py"


@pytest.fixture(scope="module")
def alexnet() -> dict[str, Any]:
    return runpy.run_path(str(ALEXNET))


def test_alexnet_at_224_has_the_weights_it_says(alexnet: dict[str, Any]) -> None:
    """Counted without the memory for them."""
    model = alexnet["alexnet_elcn"](device="meta")
    layouts = [layer.layout for layer in model if isinstance(layer, LocallyConnected2d)]
    assert [layout.out_sites for layout in layouts] == [55**2, 27**2, *[13**2] * 3]
    # along one axis, a 3-wide window loses one read at each border, and so on: 605 - 3, 135 - 6, 39 - 2
    assert [layout.nnzb for layout in layouts] == [602**2, 129**2, *[37**2] * 3]
    assert sum(layout.nnz for layout in layouts) == 599_296_768
    assert sum(p.numel() for p in model.parameters()) == 654_356_874
    assert layouts[0].in_features * layouts[0].out_features == 3 * 224**2 * 64 * 55**2 == 29_142_220_800


def test_alexnet_trains_at_a_small_size(alexnet: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    losses = alexnet["main"](["--size", "63", "--head", "16", "--batch", "16", "--steps", "4"])
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert "step 4: loss" in capsys.readouterr().out
