"""Block patterns: every way to make one, what it reports, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch

from efcn_kernels import BlockLayout, ConvGeometry
from tests.support.oracle import pairs


def example() -> BlockLayout:
    """3 x 4 sites, an empty row and an empty column."""
    return BlockLayout(3, 4, (2, 5), [0, 2, 2, 5], [0, 3, 0, 1, 3], local=[True, False, True, True, False])


@pytest.mark.filterwarnings("ignore:Sparse")
def test_what_a_layout_reports() -> None:
    layout = example()
    assert (layout.nnzb, layout.nnz, layout.in_features, layout.out_features) == (5, 50, 20, 6)
    assert layout.density == 50 / 120
    assert layout.row.tolist() == [0, 0, 2, 2, 2]
    assert layout.keys().tolist() == [0, 3, 8, 9, 11]
    assert layout.fan_in().tolist() == [[10, 10], [0, 0], [15, 15]]
    assert "3 x 4 sites" in repr(layout)
    assert "off-local 2" in repr(layout)
    crow, col = layout.to_bsr_indices()
    assert crow.dtype == col.dtype == torch.int32
    bsr = torch.sparse_bsr_tensor(crow, col, torch.ones(5, 2, 5), (6, 20))
    assert torch.equal(bsr.to_dense().bool(), _mask_of(layout))


def _mask_of(layout: BlockLayout) -> torch.Tensor:
    co, ci = layout.block
    mask = torch.zeros(layout.out_features, layout.in_features, dtype=torch.bool)
    for p, q in pairs(layout):
        mask[p * co : (p + 1) * co, q * ci : (q + 1) * ci] = True
    return mask


def test_the_transposed_twin() -> None:
    index = example().index(torch.device("cpu"))
    assert index.tcrow.tolist() == [0, 2, 3, 3, 5]
    assert index.tcol.tolist() == [0, 2, 2, 0, 2]
    assert index.tblock.tolist() == [0, 2, 3, 1, 4]
    assert all(t.dtype == torch.int32 for t in index[:-1] if t is not None)


def test_split_part_find() -> None:
    layout = example()
    local, off = layout.split()
    assert off is not None
    assert pairs(local) == [(0, 0), (2, 0), (2, 1)]
    assert pairs(off) == [(0, 3), (2, 3)]
    assert layout.find(local).tolist() == [0, 2, 3]
    assert layout.find(off).tolist() == [1, 4]
    assert layout.find(layout).tolist() == list(range(5))
    with pytest.raises(ValueError, match=re.escape("lacks 2 needed blocks, for one (output site 0, input site 3)")):
        local.find(off)
    whole, none = local.split()
    assert whole is local
    assert none is None
    empty = layout.part(np.zeros(5, dtype=bool))
    assert (empty.nnzb, empty.density, empty.find(empty).size) == (0, 0, 0)
    with pytest.raises(ValueError, match="lacks 5"):
        empty.find(layout)


def test_from_block_mask() -> None:
    mask = np.array([[1, 0, 1], [0, 0, 0]], dtype=bool)
    for given in (mask, torch.from_numpy(mask), mask.tolist()):
        assert pairs(BlockLayout.from_block_mask(given, (4, 2))) == [(0, 0), (0, 2)]
    with pytest.raises(ValueError, match=re.escape("(6,)")):
        BlockLayout.from_block_mask(np.ones(6, dtype=bool), (1, 1))


def test_from_mask_keeps_single_entries() -> None:
    mask = torch.zeros(6, 10, dtype=torch.bool)
    mask[0, 0] = mask[3, 9] = mask[2, 5] = True
    layout = BlockLayout.from_mask(mask, (2, 5))
    assert pairs(layout) == [(0, 0), (1, 1)]
    assert layout.nnz == 3
    assert layout.density == 3 / 60
    assert layout.fan_in().tolist() == [[1, 0], [1, 1], [0, 0]]
    assert layout.mask is not None
    assert layout.mask.nonzero().tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 4]]
    whole = BlockLayout.from_mask(torch.ones(6, 10), (2, 5))
    assert whole.mask is None, "a mask without a hole is no mask"
    with pytest.raises(ValueError, match=re.escape("(6, 10)")):
        BlockLayout.from_mask(mask, (4, 5))
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        BlockLayout.from_mask(mask, (0, 5))


def test_from_mask_kept_by_parts() -> None:
    mask = torch.rand(8, 12) > 0.6
    layout = BlockLayout.from_mask(mask, (2, 3))
    kept = np.arange(layout.nnzb) % 2 == 0
    part = layout.part(kept)
    assert layout.mask is not None
    assert part.mask is not None
    assert torch.equal(part.mask, layout.mask[torch.from_numpy(kept)])


def test_from_predicate() -> None:
    band = BlockLayout.from_predicate(lambda p, q: abs(p - q) <= 1, 4, 5, (2, 2))
    assert pairs(band) == [(p, q) for p in range(4) for q in range(5) if abs(p - q) <= 1]
    near = BlockLayout.from_predicate(lambda p, q: np.abs(p - q).max(axis=-1) <= 1, (3, 4), (3, 4))
    assert pairs(near) == [(p, q) for p in range(12) for q in range(12) if max(abs(p // 4 - q // 4), abs(p % 4 - q % 4)) <= 1]
    none = BlockLayout.from_predicate(lambda p, q: p < 0, 3, 3)
    assert none.nnzb == 0
    assert BlockLayout.from_predicate(lambda p, q: p == q, 0, 3).nnzb == 0
    with pytest.raises(ValueError, match="one boolean per pair"):
        BlockLayout.from_predicate(lambda p, q: True, 3, 3)


def test_from_predicate_asks_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efcn_kernels.pattern.layout._PREDICATE_PAIRS", 10)
    asked: list[int] = []

    def banded(p: Any, q: Any) -> Any:
        asked.append(p.size)
        return p >= q

    layout = BlockLayout.from_predicate(banded, 7, 4)
    assert pairs(layout) == [(p, q) for p in range(7) for q in range(4) if p >= q]
    assert asked == [8, 8, 8, 4]


def test_full() -> None:
    layout = BlockLayout.full(3, 4, (2, 5))
    assert pairs(layout) == [(p, q) for p in range(3) for q in range(4)]
    assert layout.density == 1
    assert BlockLayout.full(1, 1).nnz == 1
    assert BlockLayout.full(0, 4).nnzb == 0


def test_from_conv_by_hand() -> None:
    layout = BlockLayout.from_conv(ConvGeometry.make(2, 3, (4,), 3, padding=1))
    assert pairs(layout) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    assert layout.block == (3, 2)
    grouped = BlockLayout.from_conv(ConvGeometry.make(2, 2, (2,), 1, groups=2))
    assert pairs(grouped) == [(0, 0), (1, 1), (2, 2), (3, 3)], "a site is (position, group)"
    assert grouped.block == (1, 1)


def test_from_support() -> None:
    geometry = ConvGeometry.make(1, 1, (5, 5), 3)
    local = BlockLayout.from_support(geometry, "local")
    assert BlockLayout.from_support(geometry, 0).nnzb == local.nnzb == 9 * 9
    assert BlockLayout.from_support(geometry, 1).nnzb == 5 * 5 + 4 * 20 + 4 * 16
    assert BlockLayout.from_support(geometry, "full").nnzb == 9 * 25
    own = BlockLayout.from_support(geometry, BlockLayout.full(9, 25))
    assert own.nnzb == 9 * 25
    assert int(own.local.sum()) == 9 * 9
    assert pairs(own.split()[0]) == pairs(local)
    asked = BlockLayout.from_support(geometry, lambda g: BlockLayout.from_conv(g, halo=1))
    assert asked.nnzb == BlockLayout.from_support(geometry, 1).nnzb
    for bad in ("globel", None, True, 1.5, -1):
        with pytest.raises(ValueError, match=re.escape(repr(bad))):
            BlockLayout.from_support(geometry, bad)
    with pytest.raises(ValueError, match=re.escape("(9, 24, (1, 1))")):
        BlockLayout.from_support(geometry, BlockLayout.full(9, 24))
    with pytest.raises(ValueError, match="lacks"):
        BlockLayout.from_support(geometry, BlockLayout.from_predicate(lambda p, q: p == q, 9, 25))
    hole = np.ones((9, 25), dtype=bool)
    hole[0, 0] = False
    with pytest.raises(ValueError, match="lacks"):
        BlockLayout.from_support(geometry, BlockLayout.from_mask(hole, (1, 1)))


def test_from_support_refuses_a_mask_over_own_entries() -> None:
    geometry = ConvGeometry.make(2, 2, (3,), 1)
    mask = np.ones((6, 6), dtype=bool)
    mask[0, 1] = False
    with pytest.raises(ValueError, match="element mask"):
        BlockLayout.from_support(geometry, BlockLayout.from_mask(mask, (2, 2)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"crow": [0, 1, 3]}, "3"),
        ({"crow": [1, 2, 2, 5]}, "crow"),
        ({"crow": [0, 3, 2, 5]}, "crow"),
        ({"crow": [0, 2, 2, 4]}, "crow"),
        ({"col": [0, 3, 0, 1, 4]}, "4"),
        ({"col": [0, 3, -1, 1, 3]}, "-1"),
        ({"col": [3, 0, 0, 1, 3]}, "ascend"),
        ({"col": [0, 0, 0, 1, 3]}, "ascend"),
        ({"col": [[0, 3, 0, 1, 3]]}, "(1, 5)"),
        ({"col": [0.0, 3.0, 0.0, 1.0, 3.0]}, "float64"),
        ({"col": [0, 3, 0, 1, 2**31]}, str(2**31)),
        ({"local": [True, False]}, "(2,)"),
        ({"mask": np.ones((5, 2, 4))}, "(5, 2, 4)"),
        ({"block": (2, -1)}, "-1"),
        ({"block": (2.5, 1)}, "2.5"),
        ({"out_sites": 4}, "5"),
        ({"groups": 2}, "groups=2"),
        ({"groups": 0}, "0"),
    ],
)
def test_an_invalid_pattern_is_refused(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"out_sites": 3, "in_sites": 4, "block": (2, 5), "crow": [0, 2, 2, 5], "col": [0, 3, 0, 1, 3]}
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        BlockLayout(**good | change)


def test_more_blocks_than_an_int32_counts() -> None:
    """Refused by arithmetic, before anything of that size is allocated."""
    with pytest.raises(ValueError, match=re.escape("4,294,967,296 blocks; a layout holds at most 2,147,483,647")):
        BlockLayout.full(2**16, 2**16)
    with pytest.raises(ValueError, match=re.escape("2,517,630,976")):
        BlockLayout.from_support(ConvGeometry.make(3, 64, (224, 224), 3, padding=1), "full")


def test_the_first_layer_of_a_vgg_at_imagenet_size() -> None:
    """224 x 224, 3 x 3, padding 1: inner sites have nine blocks, edges six, corners four."""
    layout = BlockLayout.from_conv(ConvGeometry.make(3, 64, (224, 224), 3, padding=1))
    assert layout.nnzb == (3 * 224 - 2) ** 2
    assert layout.block == (64, 3)
    for y, x in [(0, 0), (0, 100), (223, 223), (57, 0), (111, 112), (222, 1)]:
        p = y * 224 + x
        around = [(y + a) * 224 + x + b for a in (-1, 0, 1) for b in (-1, 0, 1) if 0 <= y + a < 224 and 0 <= x + b < 224]
        assert layout.col[layout.crow[p] : layout.crow[p + 1]].tolist() == around
    index = layout.index(torch.device("cpu"))
    q = 100 * 224 + 7
    entries = slice(int(index.tcrow[q]), int(index.tcrow[q + 1]))
    assert layout.row[index.tblock[entries].numpy()].tolist() == index.tcol[entries].tolist()
    assert (layout.col[index.tblock[entries].numpy()] == q).all()


def test_copies() -> None:
    layout = BlockLayout.from_mask(torch.rand(12, 20) > 0.5, (2, 5), local=None)
    assert copy.deepcopy(layout) is layout, "it is immutable, so copies of a model share it"
    again = pickle.loads(pickle.dumps(layout))
    assert (again.out_sites, again.in_sites, again.block, again.groups, again.channels_first) == (6, 4, (2, 5), 1, False)
    for one, other in zip(again.index(torch.device("cpu")), layout.index(torch.device("cpu"))):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert (again.local == layout.local).all()


def test_a_layout_does_not_follow_the_arrays_it_was_made_of() -> None:
    crow, col = np.array([0, 2, 2, 5], np.int32), np.array([0, 3, 0, 1, 3], np.int32)
    local = np.array([True, False, True, True, False])
    layout = BlockLayout(3, 4, (2, 5), crow, col, local=local)
    col[:], crow[:], local[:] = 0, 0, False
    assert pairs(layout) == pairs(example())
    assert layout.local.tolist() == example().local.tolist()
