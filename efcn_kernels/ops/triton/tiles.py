"""What the kernels share: addresses, the window of a row as one axis, and the product of two tiles.

A tensor's strides come with two constants that the compiler could not find out: UNIT, the axis whose stride is 1 (0 images,
2 channels, -1 none), and ALIGN, a power of two that divides the other strides. Without them odd batches (250) lose vector loads.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def times(number, ALIGN: tl.constexpr):
    """The number itself, which is a multiple of ALIGN."""
    return number // ALIGN * ALIGN


@triton.jit
def along(index, stride, IS_UNIT: tl.constexpr, ALIGN: tl.constexpr):
    """index * stride in int64, counted in elements."""
    offset = index.to(tl.int64)
    if not IS_UNIT:
        offset *= times(stride, ALIGN)
    return offset


@triton.jit
def run(CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """The largest power of two that divides both: entries of a window come from one block in runs of that many."""
    return tl.constexpr(min(CHANNELS & -CHANNELS, BLOCK))


@triton.jit
def window(k0, length, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """(number of the block in its row, channel, inside) of the entries k0 ... k0 + BLOCK of a row's blocks x channels.

    A row's whole window is one axis, so that 3 channels x 16 taps fill a tile. Where BLOCK divides the channels, a tile lies in
    one block: its number is a scalar, nothing is divided, masked or gathered.
    """
    if CHANNELS % BLOCK == 0:
        block = k0 // CHANNELS
        channel = tl.multiple_of(k0 % CHANNELS, BLOCK) + tl.arange(0, BLOCK)
        inside = tl.full((BLOCK,), True, tl.int1)
    else:
        k = k0 + tl.arange(0, BLOCK)
        block = tl.max_constancy(k // CHANNELS, run(CHANNELS, BLOCK))
        channel = tl.multiple_of(tl.max_contiguous(k % CHANNELS, run(CHANNELS, BLOCK)), run(CHANNELS, BLOCK))
        inside = k < length
    return block, channel, inside


@triton.jit
def looked_up(table, block, inside, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """table[block], for blocks of window()."""
    if CHANNELS % BLOCK == 0:
        entry = tl.load(table + block)
    else:
        entry = tl.max_constancy(tl.load(table + block, mask=inside, other=0), run(CHANNELS, BLOCK))
    return entry


@triton.jit
def wide(dtype: tl.constexpr):
    """The dtype that sums are kept in."""
    return tl.constexpr(tl.float64 if dtype == tl.float64 else tl.float32)


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """total + a @ b. PRECISION: how float32 is multiplied, "ieee" or "tf32"; WIDEN: the interpreter has no product of bfloat16."""
    if WIDEN:
        a, b = a.to(total.dtype), b.to(total.dtype)
    return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)
