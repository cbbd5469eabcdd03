"""What the kernels share: strides, the window of a row as one axis, and the product of two tiles.

A tensor's strides come with two constants that the compiler could not find out: UNIT, the axis whose stride is 1 (0 images,
2 channels, -1 none), and ALIGN, a power of two that divides the other strides. Without them odd batches (250) lose vector loads.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.constexpr_function
def wide(dtype):
    """The dtype that sums are kept in."""
    return tl.float64 if dtype == tl.float64 else tl.float32


@triton.constexpr_function
def run(channels, block):
    """The largest power of two that divides both: entries of a window come from one block in runs of that many."""
    return min(channels & -channels, block)


@triton.jit
def strides(images, sites, channels, UNIT: tl.constexpr, ALIGN: tl.constexpr):
    """The three strides as they are, with what is known of them, in int64: offsets leave int32 in large batches."""
    n = 1 if UNIT == 0 else (images // ALIGN * ALIGN).to(tl.int64)
    c = 1 if UNIT == 2 else (channels // ALIGN * ALIGN).to(tl.int64)
    return n, (sites // ALIGN * ALIGN).to(tl.int64), c


@triton.jit
def channels(k0, length, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """(channel, inside) of the entries k0 ... k0 + BLOCK of a row whose window, blocks x channels, is of that length.

    The whole window is one axis, so that 3 channels x 16 taps fill a tile. Where BLOCK divides the channels, a tile lies in one
    block: nothing is divided, masked or gathered.
    """
    if CHANNELS % BLOCK == 0:
        channel = tl.multiple_of(k0 % CHANNELS, BLOCK) + tl.arange(0, BLOCK)
        inside = tl.full((BLOCK,), True, tl.int1)
    else:
        k = k0 + tl.arange(0, BLOCK)
        channel = tl.multiple_of(tl.max_contiguous(k % CHANNELS, run(CHANNELS, BLOCK)), run(CHANNELS, BLOCK))
        inside = k < length
    return channel, inside


@triton.jit
def blocks(source, block, first, k0, length, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """(site, number) of the blocks of the same entries, one each where BLOCK divides the channels.

    source: the site of each block; block: the number of each, or None: its own; first: where the row begins in both.
    """
    if CHANNELS % BLOCK == 0:
        entry, inside = first + k0 // CHANNELS, k0 < length
        site = tl.load(source + entry, mask=inside, other=0)
        number = entry if block is None else tl.load(block + entry, mask=inside, other=0)
    else:
        k = k0 + tl.arange(0, BLOCK)
        entry, inside = first + k // CHANNELS, k < length
        site = tl.max_constancy(tl.load(source + entry, mask=inside, other=0), run(CHANNELS, BLOCK))
        number = tl.max_constancy(entry if block is None else tl.load(block + entry, mask=inside, other=0), run(CHANNELS, BLOCK))
    return site.to(tl.int64), number.to(tl.int64)


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """total + a @ b. PRECISION: how float32 is multiplied, "ieee" or "tf32"; WIDEN: the interpreter has no product of bfloat16."""
    if WIDEN:
        a, b = a.to(total.dtype), b.to(total.dtype)
    return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)
