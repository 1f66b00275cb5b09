"""The weight gradient of a depthwise correlation, whose channels do not mix: a channel per lane.

    dw[kh, kw, c] = sum over n, oh, ow of x[n, oh SH + kh DH - TOP, ow SW + kw DW - LEFT, c] dy[n, oh, ow, c]

Both images are read in place. In the regions of pixels that have all taps (see dense) the sums of a vector of channels,
one per tap, stay in registers while the pixels go by; beside the borders they are made tap by tap. A kernel that moves
by one column has a quicker way (see slide). Blocks of pixels are dealt to a fixed number of chunks, whose sums are
added in order: the same bits for any number of threads.

Copies of blocks, and tiles of five taps by four vectors, as `outer` has them, took 1.9 times as long on 64 channels of
56 x 56, and 2.3 times on 512 of 7 x 7 (Emerald Rapids).
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbprop import jit
from nbprop.ops import dense, simd, slide
from nbprop.ops.flat import power_of_two, share
from nbprop.ops.outer import in_chunks
from nbprop.ops.queue import queue, take

__all__ = ["memory", "plan", "settle"]

# The most chunks, the fewest pixels of one, and items per task.
_CHUNKS, _PIXELS, _ITEMS = 32, 256, 4
# Rows of a block. The sum of dy is made first, in the order of memory, which is the quickest way from there to L2; what
# follows takes a vector of each pixel. Blocks of 2 and of 8 rows are up to a tenth slower, of 14 a fifth.
_ROWS = 4


class Plan(NamedTuple):
    """A correlation with its blocks, the tile's rows, each tap's place in x and dw, the regions, and the chunks.

    `kinds[b]` is the first and last region of band b.
    """

    p: dense.Correlation
    mr: int
    a_rows: np.ndarray
    c_rows: np.ndarray
    regions: np.ndarray
    kinds: np.ndarray
    chunks: int


@functools.lru_cache(maxsize=512)
def plan(p):
    """Return the Plan of a weight gradient."""
    p = p._replace(NB=1, RB=max(1, min(p.OH, _ROWS)))
    bands = [dense.regions(p, band) for band in range(dense.bands(p))]
    ends = np.cumsum([0, *map(len, bands)])
    chunks = power_of_two(min(_CHUNKS, dense.blocks(p), p.N * p.OH * p.OW // _PIXELS))
    kh, kw = (i.ravel() for i in np.indices((p.KH, p.KW)))
    mr = _tile(max(p.KH * p.KW, 1))
    a_rows, c_rows = (np.pad(rows, (0, -rows.size % mr), mode="edge") if rows.size else rows
                      for rows in ((kh * p.DH * p.W + kw * p.DW) * p.C, (kh * p.KW + kw) * p.C))
    regions = np.array([region for band in bands for region in band], np.int64).reshape(-1, 8)
    return Plan(p, mr, a_rows, c_rows, regions, np.stack([ends[:-1], ends[1:]], axis=1), chunks)


def _tile(taps):
    """Return the tile's rows: as few tiles as the registers allow, with a vector of dy and an operand beside them."""
    tiles = -(-taps // (24 if simd.registers() == 32 else 12))
    return -(-taps // tiles)


def _sums(p):
    """Return the elements of a chunk's weights and biases."""
    return (p.KH * p.KW + 1) * p.C


def memory(p, dtype):
    """Return the elements of scratch memory: the chunks' partial sums."""
    chunks = plan(p).chunks
    return chunks * _sums(p) if chunks > 1 else 0


def settle(p, dtype, scratch):
    """Return the function of x, dy, dw and db (flat) that fills dw and db; `scratch` is as large as `memory` says."""
    p, mr, *tables, chunks = plan(p)
    each, L = _sums(p), simd.lanes(dtype)
    tasks = dense.worth_threads(dense.operations(p))
    # All channels of a pixel are one run of memory: they are shared out where there are too few chunks.
    groups = max(1, min(-(-p.C // L), _ITEMS * tasks // chunks))
    tasks = min(tasks, chunks * groups)
    arguments = each, np.array(p, np.int64), *tables, chunks, groups, L, queue(tasks), tasks
    driver = _driver(slide.sweep(p.KW, p.KH) if slide.fits(p) else _sweep(mr))
    return in_chunks(driver, arguments, chunks, p.C, scratch[: chunks * each], tasks)


@functools.cache
def _driver(sweep):
    """Make the driver for one sweep of a band."""

    @jit.driver
    def lanewise_outer_items(x, dy, dw_sums, db_sums, each, numbers, a_rows, c_rows, regions, kinds, chunks, groups, L,
                             waiting, task, tasks):
        p = dense.fields(numbers)
        bands, vectors = kinds.shape[0], (p.C + L - 1) // L
        item = take(waiting, chunks * groups, task, tasks)
        while item < chunks * groups:
            chunk, group = item // groups, item % groups
            o, end = share(vectors, group, groups)
            o, width = o * L, min(end * L, p.C) - o * L
            sums, bias_sums = dw_sums[chunk * each :][: each - p.C], db_sums[chunk * each :][: p.C]
            for tap in range(p.KH * p.KW):
                simd.clear(sums, tap * p.C + o, width)
            simd.clear(bias_sums, o, width)
            for block in range(*share(p.N * bands, chunk, chunks)):
                n, band = block // bands, block % bands
                oh = band * p.RB
                band_regions = regions[kinds[band, 0] : kinds[band, 1]]
                begin, pixels = (n * p.OH + oh) * p.OW * p.C + o, min(p.RB, p.OH - oh) * p.OW
                _add_pixels(dy[begin:], pixels, p.C, bias_sums[o : o + width])
                sweep(x, dy, n, oh, band_regions, p, o, width, a_rows, sums, c_rows)
            item = take(waiting, chunks * groups, task, tasks)

    return lanewise_outer_items


@jit.kernel
def _add_pixels(dy, pixels, step, total):
    """Add to db: the sum of dy (seed 003, section 3.1.2)."""
    for pixel in range(pixels):
        line = dy[pixel * step :][: total.size]
        for c in range(total.size):
            total[c] += line[c]


@functools.cache
def _sweep(mr):
    """Make the sweep of a band, region by region: all taps at once, or beside the borders one by one."""
    whole, single = _product(mr), _product(1)

    @jit.kernel
    def sweep(x, dy, n, oh, regions, p, o, width, a_rows, sums, c_rows):
        sa1, sa2, sb1, sb2 = p.SH * p.W * p.C, p.SW * p.C, p.OW * p.C, p.C
        for region in range(regions.shape[0]):
            r, rows, q, columns, kh0, kh1, kw0, kw1 = regions[region]
            a0 = ((n * p.H + (oh + r) * p.SH - p.TOP) * p.W + q * p.SW - p.LEFT) * p.C + o
            b0 = ((n * p.OH + oh + r) * p.OW + q) * p.C + o
            if kh1 - kh0 == p.KH and kw1 - kw0 == p.KW:
                whole(0, a_rows.size, x, a0, a_rows, rows, columns, sa1, sa2, dy, b0, sb1, sb2, sums, o, c_rows, width)
                continue
            for kh in range(kh0, kh1):
                first, last = kh * p.KW + kw0, kh * p.KW + kw1
                single(first, last, x, a0, a_rows, rows, columns, sa1, sa2, dy, b0, sb1, sb2, sums, o, c_rows, width)

    return sweep


@functools.cache
def _product(mr):
    """Make the product of `mr` taps at a time, c[m][lane] += sum over i1 < n1, i2 < n2 of a[m][i1][i2][lane] b[...].

    `a_rows` and `c_rows` hold the taps' offsets, those of a tile from entry `row` on, until `end`; i1 and i2 step by
    (sa1, sa2) through a and (sb1, sb2) through b. All channels follow, vector by vector.
    """

    @intrinsic
    def product(typingctx, row, end, a, a0, a_rows, n1, n2, sa1, sa2, b, b0, sb1, sb2, c, c0, c_rows, channels):
        signature = types.void(row, end, a, a0, a_rows, n1, n2, sa1, sa2, b, b0, sb1, sb2, c, c0, c_rows, channels)
        return signature, functools.partial(simd.apart, f"{__name__}.product.{mr}", functools.partial(_emit, mr))

    product._set_uuid(f"{__name__}.product({mr})")  # see micro_kernel
    return product


def _emit(mr, context, builder, args):
    row, end, a, a0, a_rows, n1, n2, sa1, sa2, b, b0, sb1, sb2, c, c0, c_rows, channels = args
    int64, vector = simd.int64, simd.register(context, a)
    acc = [cgutils.alloca_once(builder, vector) for _ in range(mr)]

    def sums(left, right, channel, lanes, alive):
        for target, total in zip(right, acc):
            builder.store(simd.load(builder, vector, c, builder.add(target, channel), 0, alive), total)
        with simd.rolled(builder, n1) as i1:
            a1 = builder.add(channel, builder.mul(i1, sa1))
            b1 = builder.add(builder.add(b0, channel), builder.mul(i1, sb1))
            with simd.rolled(builder, n2) as i2:
                at_a, at_b = builder.add(a1, builder.mul(i2, sa2)), builder.add(b1, builder.mul(i2, sb2))
                one = simd.load(builder, vector, b, at_b, 0, alive)
                for start, total in zip(left, acc):
                    value = simd.load(builder, vector, start, at_a, 0, alive)
                    builder.store(simd.fmuladd(builder, value, one, builder.load(total)), total)
        return [builder.load(total) for total in acc]

    with cgutils.for_range_slice(builder, row, end, int64(mr)) as (first, _):
        left, right = ([builder.load(builder.gep(t, [builder.add(first, int64(m))])) for m in range(mr)]
                       for t in (a_rows, c_rows))
        left, right = [builder.gep(a, [builder.add(a0, r)]) for r in left], [builder.add(c0, r) for r in right]
        simd.by_vector(builder, vector, channels, c, right, functools.partial(sums, left, right))
