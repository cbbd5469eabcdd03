"""The kernel of forward and grad-input: result[n, r] = bias[r] + sum over entries e of row r of values[block(e)] @ input[n, source(e)].

Grad-input is the same sum on the transposed twin with each block transposed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from efcn_kernels.ops.backends.triton.tiles import blocks, channels, dot, strides, wide


@triton.jit(do_not_specialize=["N", "y_n", "y_site", "y_c", "x_n", "x_site", "x_c"])
def product(
    y,  # (N, rows, OUT), any strides
    x,  # (N, sources, IN), any strides
    values,  # blocks of OUT x IN, or TRANSPOSED of IN x OUT, contiguous
    bias,  # (rows, OUT) or None
    begin,  # (rows + 1,) int32: where the entries of each row begin
    source,  # (entries,) int32: the site of x of each entry
    block,  # (entries,) int32: the block of each entry, or None: the entry's own number
    N,
    y_n,
    y_site,
    y_c,
    x_n,
    x_site,
    x_c,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    Y_UNIT: tl.constexpr,
    Y_ALIGN: tl.constexpr,
    X_UNIT: tl.constexpr,
    X_ALIGN: tl.constexpr,
    N_ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """BLOCK_M images x BLOCK_N channels of one row; the sum runs over the row's window, IN channels of each entry."""
    images = N // N_ALIGN * N_ALIGN
    y_n, y_site, y_c = strides(y_n, y_site, y_c, Y_UNIT, Y_ALIGN)
    x_n, x_site, x_c = strides(x_n, x_site, x_c, X_UNIT, X_ALIGN)
    # programs of one row follow each other: its weights are read from memory once, neighbouring rows find their common inputs in L2
    program = tl.program_id(0)
    n_tiles, out_tiles = tl.cdiv(images, BLOCK_M), tl.cdiv(OUT, BLOCK_N)
    row = program // (n_tiles * out_tiles)
    out = program // n_tiles % out_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    n = program % n_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    is_image, is_out = n < images, out < OUT

    first = tl.load(begin + row)
    length = (tl.load(begin + row + 1) - first) * IN
    x_rows = x + (n * x_n)[:, None]  # [BLOCK_M, 1]
    v_columns = values + (out if TRANSPOSED else out * IN)[None, :]  # [1, BLOCK_N]
    total = tl.full((BLOCK_M, BLOCK_N), 0, wide(values.dtype.element_ty))
    site, number = blocks(source, block, first, 0, length, IN, BLOCK_K)
    for k0 in range(0, length, BLOCK_K):
        channel, inside = channels(k0, length, IN, BLOCK_K)
        x_columns = site * x_site + channel * x_c
        v_rows = number * (IN * OUT) + (channel * OUT if TRANSPOSED else channel)
        x_tile = tl.load(x_rows + x_columns[None, :], mask=is_image[:, None] & inside[None, :], other=0)  # [BLOCK_M, BLOCK_K]
        v_tile = tl.load(v_columns + v_rows[:, None], mask=is_out[None, :] & inside[:, None], other=0)  # [BLOCK_K, BLOCK_N]
        # one step ahead: tiles whose addresses wait for another load are not fetched as early
        site, number = blocks(source, block, first, k0 + BLOCK_K, length, IN, BLOCK_K)
        total = dot(x_tile, v_tile, total, PRECISION, WIDEN)
    if bias is not None:
        total += tl.load(bias + row.to(tl.int64) * OUT + out, mask=is_out, other=0).to(total.dtype)[None, :]
    y_tile = y + row * y_site + (n * y_n)[:, None] + (out * y_c)[None, :]
    tl.store(y_tile, total.to(y.dtype.element_ty), mask=is_image[:, None] & is_out[None, :])
