"""The weight gradient of everything dense: a sum over pixels of (input at a tap) x (output gradient).

    dw[k][o] = sum over n, oh, ow of x[n, oh SH + kh DH - TOP, ow SW + kw DW - LEFT, c] dy[n, oh, ow, o]

with k = (kh, kw, c).

Rows of the micro-kernel are taps k, lanes are output channels, and the three loops run over the pixels of a block:
nothing is packed. The blocks are dealt to a fixed number of chunks, whose partial sums are added in order, so that
the result has the same bits for any number of threads.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops import dense, simd

_ROW = np.zeros(1, np.int64)  # the table of a single row

__all__ = ["outer", "partials_shape", "plan", "settle"]

# Bytes of input per block: each tile of each panel of channels runs over it. In the second cache of a Zen 3, 512 KiB,
# 200 KiB against 800: 1x1 on 256 channels 91 GFLOP/s to 73, stride 2 on 64 channels 102 to 69.
_BLOCK = int(0.4 * dense.second_cache())
# Bytes of partial sums in all, the most chunks, and the fewest pixels of one: a chunk writes and reads the whole
# gradient once more.
_PARTIALS = 2 * 1024 * 1024
_CHUNKS = 32
_PIXELS = 256
# Floating-point operations from which a tile that fits the number of taps is worth a kernel of its own to compile.
_FITTING = 10_000_000


class Tables(NamedTuple):
    """Which taps a region's pixels have, and where they lie.

    `a_rows` and `c_rows` are offsets of taps k = (kh, kw, c) in x (from a pixel's tap 0) and in dw, for each window of
    taps that occurs; each window is filled up with repeats of its last tap. A row of `regions` is (first row, rows,
    first column, columns, first and last entry of its window); `kinds[b]` is the first and last region of band b.
    """

    a_rows: np.ndarray
    c_rows: np.ndarray
    regions: np.ndarray
    kinds: np.ndarray


@functools.lru_cache(maxsize=512)
def plan(p, dtype):
    """Return (p with its blocks, MR, NV, tables, chunks, zeros) for a weight gradient; cached per geometry."""
    p = dense.block(p, dtype, limit=_BLOCK)
    mr, nv = dense.tile(p.OG, dtype, p.LANEWISE)
    if dense.operations(p) > _FITTING:
        mr = _fitting(mr, p.KH * p.KW * dense.depth(p))
    weights = p.KH * p.KW * dense.depth(p) * p.G * p.OG * np.dtype(dtype).itemsize
    pixels = p.N * p.OH * p.OW
    chunks = max(1, min(_CHUNKS, _PARTIALS // max(weights, 1), dense.blocks(p), pixels // _PIXELS))
    chunks = 1 << (chunks.bit_length() - 1)  # a power of two: equal shares for 2, 4, 8 ... threads
    return p, mr, nv, _tables(p, mr), chunks, np.ones(nv * simd.lanes(np.dtype(dtype)), dtype)


def _tables(p, mr):
    a_rows, c_rows, windows, found, seen = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], {}, [], {}
    kinds = np.zeros((dense.bands(p), 2), np.int64)
    for band in range(dense.bands(p)):
        key = dense.regions(p, band)
        if key not in seen:
            start = len(found)
            for region in key:
                window = region[4:]
                if window not in windows:
                    first = sum(map(len, a_rows))
                    for table, values in zip((a_rows, c_rows), _taps(p, *window)):
                        table.append(np.pad(values, (0, -values.size % mr), mode="edge") if values.size else values)
                    windows[window] = first, first + _taps(p, *window)[0].size
                found.append((*region[:4], *windows[window]))
            seen[key] = start, len(found)
        kinds[band] = seen[key]
    return Tables(np.concatenate(a_rows), np.concatenate(c_rows), np.array(found, np.int64).reshape(-1, 6), kinds)


def _taps(p, kh0, kh1, kw0, kw1):
    """Offsets of a window's taps in x and in dw."""
    kh, kw, c = (i.ravel() for i in np.indices((kh1 - kh0, kw1 - kw0, dense.depth(p))))
    kh, kw = kh + kh0, kw + kw0
    return (kh * p.DH * p.W + kw * p.DW) * p.C + c, ((kh * p.KW + kw) * dense.depth(p) + c) * (p.G * p.OG)


def _fitting(mr, rows):
    """Return the tile's rows: `mr`, unless so few taps would leave more than 7 % of the last tile's work idle."""
    tiles = -(-rows // mr)
    return mr if tiles * mr <= 1.07 * rows else -(-rows // tiles)


def partials_shape(p, dtype):
    """Return (chunks, weights and biases) of the partial sums; a single chunk needs none."""
    p, *_, chunks, _ = plan(p, dtype)
    return (chunks, p.G * p.OG * (p.KH * p.KW * dense.depth(p) + 1)) if chunks > 1 else (0, 0)


def outer(x, dy, dw, db, p, partials):
    """Fill dw and db (flat) from x and dy (flat); `partials` is of `partials_shape`."""
    settle(dw, db, p, partials)(x, dy)


def settle(dw, db, p, partials):
    """Return `outer` as a function of x and dy (flat): what a layer's every step repeats is settled once."""
    p, mr, nv, tables, chunks, ones = plan(p, dw.dtype)
    shares = dense.shares(-(-p.OG // ones.size), chunks * p.G)
    tasks = min(dense.worth_threads(dense.operations(p)), p.G * shares * chunks)
    if chunks == 1:
        dw_sums, db_sums = dw.reshape(1, -1), db.reshape(1, -1)
    else:
        dw_sums, db_sums = partials[:, : dw.size], partials[:, dw.size :]
    serial, parallel = _kernels(mr, nv, bool(p.LANEWISE))
    arguments = (dw_sums, db_sums, ones, np.array(p, np.int64), *tables, shares, chunks)

    def run(x, dy):
        if tasks == 1:
            serial(x, dy, *arguments, 0, 1)
        else:
            parallel(x, dy, *arguments, tasks)
        if chunks > 1:
            add_chunks(partials, dw, db, tasks)

    def clear(x, dy):
        dw[:] = 0
        db[:] = 0

    return run if dense.blocks(p) else clear


@functools.cache
def _kernels(mr, nv, lanewise):
    """Make the serial kernel for one tile size, and the driver that runs it over tasks."""
    whole, part = simd.product(mr, nv, False, lanewise), simd.product(mr, nv, True, lanewise)
    add_rows = simd.product(1, nv, True)

    @jit.kernel
    def add_block(x, x0, dy, dy0, images, p, a_rows, c_rows, regions, ones, sums, bias_sums, o, width, unbounded):
        """Add what a block's pixels bring for a panel of output channels."""
        P, O = ones.size, p.G * p.OG
        for region in range(regions.shape[0]):
            r, n1, q, n2, first, last = regions[region]
            a0, b0 = x0 + (r * p.SH * p.W + q * p.SW) * p.C, dy0 + (r * p.OW + q) * O
            a1, a2, b1, b2 = p.SH * p.W * p.C, p.SW * p.C, p.OW * O, O
            if n2 == 1:  # one column (an edge, a linear layer) is a long loop over rows
                n1, n2, a1, a2, b1, b2 = 1, n1, 0, a1, 0, b1
            # db: a row of ones against dy (seed 003, section 3.1.2)
            add_rows(0, 1, ones, 0, _ROW, images, n1, n2, 0, 0, 0, dy, b0, p.OH * p.OW * O, b1, b2,
                     bias_sums, o, 1, bias_sums, o, _ROW, width, unbounded)
            if width == P:
                whole(first, last, x, a0, a_rows, images, n1, n2, p.H * p.W * p.C, a1, a2, dy, b0,
                      p.OH * p.OW * O, b1, b2, sums, o, 1, sums, o, c_rows, width, unbounded)
            else:
                part(first, last, x, a0, a_rows, images, n1, n2, p.H * p.W * p.C, a1, a2, dy, b0,
                     p.OH * p.OW * O, b1, b2, sums, o, 1, sums, o, c_rows, width, unbounded)

    @jit.kernel
    def outer_task(x, dy, dw_sums, db_sums, ones, numbers, a_rows, c_rows, regions, kinds, shares, chunks, task, tasks):
        p, P = dense.fields(numbers), ones.size
        panels = (p.OG + P - 1) // P
        O = p.G * p.OG
        bands = (p.OH + p.RB - 1) // p.RB
        count = (p.N + p.NB - 1) // p.NB * bands
        work = chunks * p.G * shares
        unbounded = x.dtype.type(-np.inf)
        for item in range(task * work // tasks, (task + 1) * work // tasks):
            chunk, g, share = item // (p.G * shares), item // shares % p.G, item % shares
            sums, bias_sums = dw_sums[chunk], db_sums[chunk]
            begin = g * p.OG + share * panels // shares * P
            end = min(g * p.OG + (share + 1) * panels // shares * P, (g + 1) * p.OG)
            for start in range(0, sums.size, O):
                simd.clear(sums, start + begin, end - begin)
            simd.clear(bias_sums, begin, end - begin)
            for block in range(chunk * count // chunks, (chunk + 1) * count // chunks):
                n0, band = block // bands * p.NB, block % bands
                images = min(p.NB, p.N - n0)
                at = ((n0 * p.H + band * p.RB * p.SH - p.TOP) * p.W - p.LEFT) * p.C + g * p.CG
                for o in range(begin, end, P):
                    add_block(x, at + o if lanewise else at, dy, (n0 * p.OH + band * p.RB) * p.OW * O + o, images,
                              p, a_rows, c_rows, regions[kinds[band, 0] : kinds[band, 1]], ones, sums, bias_sums, o,
                              min(P, end - o), unbounded)

    @jit.driver
    def outer_tasks(x, dy, dw_sums, db_sums, ones, numbers, a_rows, c_rows, regions, kinds, shares, chunks, tasks):
        for task in prange(tasks):
            outer_task(x, dy, dw_sums, db_sums, ones, numbers, a_rows, c_rows, regions, kinds, shares, chunks, task,
                       tasks)

    return outer_task, outer_tasks


def add_chunks(partials, dw, db, tasks):
    """Add the chunks' partial sums in order: the same bits however many tasks share the weights."""
    if tasks == 1:
        _add_chunks(partials, dw, db, 0, 1)
    else:
        _add_chunks_tasks(partials, dw, db, tasks)


@jit.kernel
def _add_chunks(partials, dw, db, task, tasks):
    for sums, total in ((partials[:, : dw.size], dw), (partials[:, dw.size :], db)):
        first, last = task * total.size // tasks, (task + 1) * total.size // tasks
        for i in range(first, last):
            total[i] = sums[0, i]
        for chunk in range(1, partials.shape[0]):
            for i in range(first, last):
                total[i] += sums[chunk, i]


@jit.driver
def _add_chunks_tasks(partials, dw, db, tasks):
    for task in prange(tasks):
        _add_chunks(partials, dw, db, task, tasks)
