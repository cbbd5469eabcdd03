"""The kernel of grad-weight: gvalues[b] = sum over n of gy[n, p] outer x[n, q], and of the step of SGD by it."""

from __future__ import annotations

import triton
import triton.language as tl

from efcn_kernels.ops.backends.triton.tiles import blocks, channels, dot, strides, wide


@triton.jit
def first_tile(begin, row, CI: tl.constexpr, BLOCK: tl.constexpr):
    """The number of a row's first tile: each row gets as many tiles as whole ones end in it, and one more."""
    return (tl.load(begin + row).to(tl.int64) * CI // BLOCK).to(tl.int32) + row


@triton.jit
def row_of(tile, begin, rows, CI: tl.constexpr, BLOCK: tl.constexpr):
    """The row of a tile, by bisection: rows of any lengths make one list of tiles, and nobody asks the GPU how long they are."""
    low, high = 0, rows
    while high - low > 1:
        middle = (low + high) // 2
        if first_tile(begin, middle, CI, BLOCK) <= tile:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def step(gradient, values, momentum_buffer, mask, at, inside, lr, momentum, weight_decay, NESTEROV: tl.constexpr):
    """The step of efcn_kernels/ops/sgd.py on the weights at `at`: every rounding in its place, for the launch forbids contraction."""
    dtype: tl.constexpr = values.dtype.element_ty
    # the gradient as it would have been stored
    g = gradient.to(dtype).to(gradient.dtype)
    if mask is not None:
        g = g * tl.load(mask + at, mask=inside, other=0).to(g.dtype)
    w = tl.load(values + at, mask=inside, other=0).to(g.dtype)
    if weight_decay != 0:
        g += w * tl.full((), weight_decay, g.dtype)
    if momentum_buffer is not None:
        rate = tl.full((), momentum, g.dtype)
        m = tl.load(momentum_buffer + at, mask=inside, other=0).to(g.dtype) * rate + g
        tl.store(momentum_buffer + at, m.to(dtype), mask=inside)
        g = g + m * rate if NESTEROV else m
    tl.store(values + at, (w - g * tl.full((), lr, g.dtype)).to(dtype), mask=inside)


@triton.jit(do_not_specialize=["N", "rows", "gy_n", "gy_site", "gy_c", "x_n", "x_site", "x_c"])
def weight(
    values,  # (nnzb, CO, CI) contiguous: gvalues, or with STEP the weights to update
    momentum_buffer,  # of that shape, or None
    mask,  # of that shape, bool, or None: all free
    gy,  # (N, rows, CO), any strides
    x,  # (N, sources, CI), any strides
    begin,  # (rows + 1,) int32: where the blocks of each row begin
    source,  # (nnzb,) int32: the site of x of each block
    N,
    rows,
    gy_n,
    gy_site,
    gy_c,
    x_n,
    x_site,
    x_c,
    lr: tl.float64,
    momentum: tl.float64,
    weight_decay: tl.float64,
    CO: tl.constexpr,
    CI: tl.constexpr,
    STEP: tl.constexpr,
    NESTEROV: tl.constexpr,
    GY_UNIT: tl.constexpr,
    GY_ALIGN: tl.constexpr,
    X_UNIT: tl.constexpr,
    X_ALIGN: tl.constexpr,
    N_ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """BLOCK_M entries of a row's window (CI channels of each block) x BLOCK_N output channels; the sum runs over the images."""
    images = N // N_ALIGN * N_ALIGN
    gy_n, gy_site, gy_c = strides(gy_n, gy_site, gy_c, GY_UNIT, GY_ALIGN)
    x_n, x_site, x_c = strides(x_n, x_site, x_c, X_UNIT, X_ALIGN)
    # tiles of one row follow each other: they share its gy, and with their neighbours x
    program = tl.program_id(0)
    out_tiles = tl.cdiv(CO, BLOCK_N)
    tile = program // out_tiles
    out = program % out_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    is_out = out < CO

    row = row_of(tile, begin, rows, CI, BLOCK_M)
    first = tl.load(begin + row)
    length = (tl.load(begin + row + 1) - first) * CI
    j0 = (tile - first_tile(begin, row, CI, BLOCK_M)) * BLOCK_M
    if j0 >= length:
        return
    site, block = blocks(source, None, first, j0, length, CI, BLOCK_M)
    channel, inside = channels(j0, length, CI, BLOCK_M)
    x_rows = x + (site * x_site + channel * x_c)[:, None]  # [BLOCK_M, 1]
    gy_columns = gy + row * gy_site + (out * gy_c)[None, :]  # [1, BLOCK_N]
    total = tl.full((BLOCK_M, BLOCK_N), 0, wide(values.dtype.element_ty))
    for n0 in range(0, images, BLOCK_K):
        n = n0 + tl.arange(0, BLOCK_K)
        is_image = n < images
        x_tile = tl.load(x_rows + (n * x_n)[None, :], mask=inside[:, None] & is_image[None, :], other=0)
        gy_tile = tl.load(gy_columns + (n * gy_n)[:, None], mask=is_image[:, None] & is_out[None, :], other=0)
        total = dot(x_tile, gy_tile, total, PRECISION, WIDEN)  # [BLOCK_M, BLOCK_K] @ [BLOCK_K, BLOCK_N]
    at = (block * (CO * CI) + channel)[:, None] + (out * CI)[None, :]  # [BLOCK_M, BLOCK_N]
    stored = inside[:, None] & is_out[None, :]
    if STEP:
        step(total, values, momentum_buffer, mask, at, stored, lr, momentum, weight_decay, NESTEROV)
    else:
        tl.store(values + at, total.to(values.dtype.element_ty), mask=stored)
