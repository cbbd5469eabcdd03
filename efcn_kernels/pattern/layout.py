"""Which blocks are stored: the pattern, its transposed twin and the local / off-local flags, all in O(nnzb)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from efcn_kernels.pattern import csr
from efcn_kernels.pattern.geometry import ConvGeometry, Ints
from efcn_kernels.pattern.index import Index, fixed, read_only
from efcn_kernels.pattern.sites import with_groups
from efcn_kernels.pattern.validation import block_count, entry_mask, index_array, integer

if TYPE_CHECKING:
    from efcn_kernels.cost.machine import Machine
    from efcn_kernels.cost.model import Plan

Bools = npt.NDArray[np.bool_]
_PREDICATE_PAIRS = 1 << 22


class BlockLayout:
    """An immutable block-sparse pattern: P output sites x Q input sites, blocks of Co x Ci.

    Args:
        out_sites, in_sites: P and Q.
        block: (Co, Ci).
        crow, col: CSR indices (P+1,) and (nnzb,), columns strictly ascending in each row.
        local: which blocks lie inside the convolution's own window, (nnzb,) bool; None: all.
        mask: which entries of each block are free, (nnzb, Co, Ci) bool; None: all. The others stay exactly zero.
        groups: a site is (position, group), group varying fastest.
        channels_first: features are in (channel, position) order as torch flattens images; else (site, channel).

    Raises ValueError, repeating what was given, for an invalid pattern.
    """

    def __init__(
        self,
        out_sites: int,
        in_sites: int,
        block: tuple[int, int],
        crow: npt.ArrayLike,
        col: npt.ArrayLike,
        *,
        local: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        groups: int = 1,
        channels_first: bool = False,
    ) -> None:
        self.out_sites, self.in_sites = integer("out_sites", out_sites), integer("in_sites", in_sites)
        if not isinstance(block, Sequence) or len(block) != 2:
            raise ValueError(f"block must be (Co, Ci), got {block!r}")
        self.block = (integer("block", block[0]), integer("block", block[1]))
        self.groups, self.channels_first = integer("groups", groups, 1), channels_first
        if self.out_sites % self.groups or self.in_sites % self.groups:
            raise ValueError(f"groups must divide both site counts, got groups={groups} for {out_sites} and {in_sites} sites")
        rows, cols = index_array("crow", crow), index_array("col", col)
        if rows.size != self.out_sites + 1:
            raise ValueError(f"crow must have out_sites + 1 = {self.out_sites + 1} entries, got {rows.size}")
        csr.check(self.in_sites, rows, cols)
        if local is None:
            self.local = np.ones(cols.size, dtype=bool)
        else:
            self.local = np.array(np.asarray(local), dtype=bool, order="C")
        if self.local.shape != cols.shape:
            raise ValueError(f"local must have one flag per block, ({cols.size},), got {self.local.shape}")
        self.local.flags.writeable = False
        entries = entry_mask(mask, (cols.size, *self.block))
        twin = csr.transpose(self.in_sites, rows, cols)
        crow_, col_, tcrow, tcol, tblock = (fixed(torch.from_numpy(a)) for a in (rows, cols, *twin))
        self._index = {torch.device("cpu"): Index(crow_, col_, tcrow, tcol, tblock, None if entries is None else fixed(entries))}

    @classmethod
    def from_conv(cls, geometry: ConvGeometry, halo: int = 0) -> BlockLayout:
        """The convolution's own blocks and, for halo > 0, every input site within `halo` pixels of the window (same group)."""
        taps = geometry.taps()
        own_rows, own_cols = with_groups(taps.out, taps.into, geometry.groups)
        if halo == 0:
            crow, col, _ = csr.compress(geometry.out_sites, geometry.in_sites, own_rows, own_cols)
            return cls._of_geometry(geometry, crow, col, None)
        rows, cols = with_groups(*geometry.window(halo), geometry.groups)
        rows, cols = np.concatenate([own_rows, rows]), np.concatenate([own_cols, cols])
        crow, col, block = csr.compress(geometry.out_sites, geometry.in_sites, rows, cols)
        local = np.zeros(col.size, dtype=bool)
        local[block[: own_rows.size]] = True
        return cls._of_geometry(geometry, crow, col, local)

    @classmethod
    def from_support(cls, geometry: ConvGeometry, support: Any) -> BlockLayout:
        """The layout that `support` names: "local", a halo radius, "full", a BlockLayout, or a function of the geometry."""
        if callable(support):
            support = support(geometry)
        if isinstance(support, BlockLayout):
            return support.checked_against(geometry)
        if support == "local":
            return cls.from_conv(geometry)
        if support == "full":
            pairs = geometry.out_sites * geometry.in_sites
            block_count(pairs)
            own = cls.from_conv(geometry)
            local = np.zeros(pairs, dtype=bool)
            local[own.keys()] = True
            crow, col = csr.dense(geometry.out_sites, geometry.in_sites)
            return cls._of_geometry(geometry, crow, col, local)
        if isinstance(support, Integral) and not isinstance(support, bool):
            return cls.from_conv(geometry, halo=int(support))
        raise ValueError(f'support must be "local", a halo radius in pixels, "full", a BlockLayout or a function of the geometry, got {support!r}')

    @classmethod
    def full(cls, out_sites: int, in_sites: int, block: tuple[int, int] = (1, 1), **kwargs: Any) -> BlockLayout:
        """Every block: a dense Linear in block order."""
        block_count(integer("out_sites", out_sites) * integer("in_sites", in_sites))
        return cls(out_sites, in_sites, block, *csr.dense(out_sites, in_sites), **kwargs)

    @classmethod
    def from_block_mask(cls, mask: npt.ArrayLike | Tensor, block: tuple[int, int], **kwargs: Any) -> BlockLayout:
        """Blocks where `mask` (P, Q) is true."""
        return cls._of_block_mask(_booleans(mask), block, None, **kwargs)

    @classmethod
    def from_mask(cls, mask: npt.ArrayLike | Tensor, block: tuple[int, int], **kwargs: Any) -> BlockLayout:
        """Entries where `mask` (out_features, in_features) is true, features in (site, channel) order.

        A block with any such entry is stored; its other entries stay exactly zero.
        """
        entries = _booleans(mask)
        co, ci = integer("block", block[0], 1), integer("block", block[1], 1)
        if entries.ndim != 2 or entries.shape[0] % co or entries.shape[1] % ci:
            raise ValueError(f"a mask has the shape (out_features, in_features), multiples of block {(co, ci)}, got {entries.shape}")
        blocks = entries.reshape(entries.shape[0] // co, co, entries.shape[1] // ci, ci).transpose(0, 2, 1, 3)
        any_entry = blocks.any(axis=(2, 3))
        return cls._of_block_mask(any_entry, (co, ci), blocks[any_entry], **kwargs)

    @classmethod
    def _of_block_mask(cls, blocks: Bools, block: tuple[int, int], entries: Bools | None, **kwargs: Any) -> BlockLayout:
        if blocks.ndim != 2:
            raise ValueError(f"a block mask has the shape (output sites, input sites), got {blocks.shape}")
        row, col = np.nonzero(blocks)
        out_sites, in_sites = blocks.shape
        crow, cols, _ = csr.compress(out_sites, in_sites, row.astype(np.int32), col.astype(np.int32))
        return cls(out_sites, in_sites, block, crow, cols, mask=entries, **kwargs)

    @classmethod
    def from_predicate(
        cls,
        fn: Callable[..., Any],
        out_sites: int | Sequence[int],
        in_sites: int | Sequence[int],
        block: tuple[int, int] = (1, 1),
        **kwargs: Any,
    ) -> BlockLayout:
        """Blocks where fn(p, q) is true.

        fn takes two integer arrays and returns booleans. Sites are counts, or grid shapes such as (H, W): then p and q
        have a last axis of coordinates. Asked in pieces, so memory stays O(nnzb); time is O(P * Q).
        """
        out_shape = (out_sites,) if isinstance(out_sites, int) else tuple(out_sites)
        in_shape = (in_sites,) if isinstance(in_sites, int) else tuple(in_sites)
        p_count, q_count = prod(out_shape), prod(in_shape)
        q_all = np.arange(q_count, dtype=np.int32)
        rows, cols = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        step = max(1, _PREDICATE_PAIRS // max(q_count, 1))
        for start in range(0, p_count, step):
            p = np.repeat(np.arange(start, min(start + step, p_count), dtype=np.int32), q_count)
            q = np.tile(q_all, p.size // max(q_count, 1))
            keep = np.asarray(fn(_coordinates(p, out_sites), _coordinates(q, in_sites)), dtype=bool)
            if keep.shape != p.shape:
                raise ValueError(f"the predicate must return one boolean per pair, {p.shape}, got {keep.shape}")
            rows.append(p[keep])
            cols.append(q[keep])
        crow, col, _ = csr.compress(p_count, q_count, np.concatenate(rows), np.concatenate(cols))
        return cls(p_count, q_count, block, crow, col, **kwargs)

    @classmethod
    def _of_geometry(cls, geometry: ConvGeometry, crow: Ints, col: Ints, local: Bools | None) -> BlockLayout:
        return cls(geometry.out_sites, geometry.in_sites, geometry.block, crow, col, local=local, groups=geometry.groups, channels_first=True)

    def checked_against(self, geometry: ConvGeometry) -> BlockLayout:
        """This layout with its local flags set from the geometry, all of whose blocks it must hold."""
        wanted = (geometry.out_sites, geometry.in_sites, geometry.block)
        if (self.out_sites, self.in_sites, self.block) != wanted:
            raise ValueError(f"the support is for (P, Q, block) = {(self.out_sites, self.in_sites, self.block)}, the convolution has {wanted}")
        own = BlockLayout.from_conv(geometry)
        place = self.find(own)
        if self.mask is not None and not bool(self.mask[torch.from_numpy(place)].all()):
            raise ValueError("the support's element mask leaves out entries of the convolution's own blocks, so it could not be exact")
        local = np.zeros(self.nnzb, dtype=bool)
        local[place] = True
        return BlockLayout(*wanted, self.crow, self.col, local=local, mask=self.mask, groups=geometry.groups, channels_first=True)

    @property
    def crow(self) -> Ints:
        """(P+1,) where each output site's blocks begin."""
        return read_only(self.index(torch.device("cpu")).crow)

    @property
    def col(self) -> Ints:
        """(nnzb,) the input site of each block."""
        return read_only(self.index(torch.device("cpu")).col)

    @property
    def row(self) -> Ints:
        """(nnzb,) the output site of each block."""
        return np.repeat(np.arange(self.out_sites, dtype=np.int32), np.diff(self.crow))

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(row, col) of each block, (nnzb,) int64 each: output site and input site, for indexing tensors."""
        col = self.index(device).col.long()
        row = torch.repeat_interleave(self.index(device).crow.diff().long(), output_size=self.nnzb)
        return row, col

    @property
    def mask(self) -> Tensor | None:
        """(nnzb, Co, Ci) bool, or None where every block is whole."""
        return self.index(torch.device("cpu")).mask

    def masked(self, weights: Tensor) -> Tensor:
        """`weights` (nnzb, Co, Ci) with zeros where the mask leaves them out; `weights` itself where every block is whole."""
        return self.index(weights.device).masked(weights)

    def zero_outside(self, weights: Tensor) -> None:
        """Set `weights` (nnzb, Co, Ci) to zero, in place, where the mask leaves them out."""
        if (mask := self.index(weights.device).mask) is not None:
            weights.mul_(mask)

    @property
    def nnzb(self) -> int:
        """Number of blocks."""
        return self.index(torch.device("cpu")).col.numel()

    @property
    def nnz(self) -> int:
        """Number of free weights."""
        return self.nnzb * prod(self.block) if self.mask is None else int(self.mask.sum())

    @property
    def in_features(self) -> int:
        return self.in_sites * self.block[1]

    @property
    def out_features(self) -> int:
        return self.out_sites * self.block[0]

    @property
    def density(self) -> float:
        """Free weights as a share of the dense matrix."""
        return self.nnz / max(self.in_features * self.out_features, 1)

    def to_bsr_indices(self) -> tuple[Tensor, Tensor]:
        """(crow_indices, col_indices) int32, as torch.sparse_bsr_tensor takes them (rows and columns in site order)."""
        # copies: whoever averages or scales a state dict must not reach the layout that runs
        return torch.from_numpy(self.crow.copy()), torch.from_numpy(self.col.copy())

    def index(self, device: torch.device) -> Index:
        """The index arrays on `device`, moved there once."""
        found = self._index.get(device)
        if found is None:
            *arrays, mask = self._index[torch.device("cpu")]
            crow, col, tcrow, tcol, tblock = (fixed(a.to(device)) for a in arrays if a is not None)
            found = Index(crow, col, tcrow, tcol, tblock, None if mask is None else fixed(mask.to(device)))
            self._index[device] = found
        return found

    def keys(self) -> npt.NDArray[np.int64]:
        """(nnzb,) ascending: p * Q + q of each block."""
        return self.row.astype(np.int64) * self.in_sites + self.col

    def find(self, other: BlockLayout) -> npt.NDArray[np.int64]:
        """The block number here of each block of `other`. Raises ValueError naming a block that is not here."""
        mine, theirs = self.keys(), other.keys()
        place = np.searchsorted(mine, theirs)
        found = np.zeros(theirs.size, dtype=bool)
        inside = place < mine.size
        found[inside] = mine[place[inside]] == theirs[inside]
        if not found.all():
            p, q = divmod(int(theirs[~found][0]), self.in_sites)
            raise ValueError(f"the layout lacks {int((~found).sum())} needed blocks, for one (output site {p}, input site {q})")
        return place

    def part(self, keep: Bools) -> BlockLayout:
        """The layout of the blocks where `keep` (nnzb,) is true, in the same order."""
        kept = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)
        mask = None if self.mask is None else self.mask[torch.tensor(keep, device="cpu")]
        return BlockLayout(
            self.out_sites,
            self.in_sites,
            self.block,
            kept[self.crow],
            self.col[keep],
            mask=mask,
            groups=self.groups,
            channels_first=self.channels_first,
        )

    def split(self) -> tuple[BlockLayout, BlockLayout | None]:
        """(local, off-local) parts; the second is None where every block is local."""
        if self.local.all():
            return self, None
        return self.part(self.local), self.part(~self.local)

    def same_blocks(self, other: BlockLayout) -> bool:
        """Whether both hold the same blocks, flags and free entries."""
        mine, theirs = self.mask, other.mask
        same_mask = mine is theirs if mine is None or theirs is None else torch.equal(mine, theirs)
        return same_mask and all(np.array_equal(a, b) for a, b in ((self.crow, other.crow), (self.col, other.col), (self.local, other.local)))

    def fan_in(self) -> npt.NDArray[np.int64]:
        """(P, Co) stored inputs of each output."""
        if self.mask is None:
            return np.repeat(np.diff(self.crow).astype(np.int64)[:, None] * self.block[1], self.block[0], axis=1)
        total = np.zeros((self.out_sites, self.block[0]), dtype=np.int64)
        np.add.at(total, self.row, self.mask.sum(dim=2).numpy())
        return total

    def plan(self, batch: int, dtype: torch.dtype = torch.float32, threads: int | None = None, machine: Machine | None = None) -> Plan:
        """What one pass costs on the CPU and whether a dense nn.Linear would be better; made to be printed.

        batch: images; threads: None: torch's; machine: its rates, else those of this one, measured once. Raises ValueError for
        a batch or number of threads below 1 and a dtype that the kernels do not take. Source: docs/performance.md.
        """
        # late: a pattern knows nothing of kernels, and what a pass costs is measured with them
        from efcn_kernels.cost import Machine, plan

        return plan(self, batch, dtype, machine or Machine.here(dtype, threads))

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockLayout:
        return self

    def __getstate__(self) -> dict[str, Any]:
        home = torch.device("cpu")
        return self.__dict__ | {"_index": {home: self._index[home]}}

    def __repr__(self) -> str:
        off = f", off-local {int((~self.local).sum())}" if not self.local.all() else ""
        return f"BlockLayout({self.out_sites} x {self.in_sites} sites, block {self.block}, nnzb {self.nnzb}{off}, density {self.density:.3g})"


def _booleans(mask: npt.ArrayLike | Tensor) -> Bools:
    return np.asarray(mask.detach().cpu() if isinstance(mask, Tensor) else mask, dtype=bool)


def _coordinates(sites: Ints, shape: int | Sequence[int]) -> npt.NDArray[Any]:
    return sites if isinstance(shape, int) else np.stack(np.unravel_index(sites, tuple(shape)), axis=-1)
