"""The weight gradient of everything dense: a sum over pixels of (input at a tap) x (output gradient).

    dw[k][o] = sum over n, oh, ow of x[n, oh SH + kh DH - TOP, ow SW + kw DW - LEFT, c] dy[n, oh, ow, o]

with k = (kh, kw, c).

Rows of the micro-kernel are taps k, lanes are output channels, and the three loops run over the pixels of a block. What
a block reads of x is copied first, with the zeros around the image, and a panel of dy likewise:

    block[n][row][column][pitch]      the pitch an odd number of cache lines
    panel[n][oh][ow][P]

Each tile runs over one line of every pixel: 256 or 1024 bytes apart, as in x and dy themselves, they would share a few
sets of the first cache and drive each other out. As with every zero that is multiplied, NaN and infinity in dy beside
an edge reach the taps that lie beyond it too.

The blocks are dealt to a fixed number of chunks, whose partial sums are added in order, so that the result has the same
bits for any number of threads.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit, tape
from nbprop.ops import dense, simd
from nbprop.ops.flat import power_of_two, share
from nbprop.ops.micro_kernel import multiply, product
from nbprop.ops.queue import queue, take, upcoming

__all__ = ["add_chunks", "in_chunks", "memory", "plan", "settle"]

# Pixels of a block: a panel of dy and a line or two per pixel of x fill the first cache. But x's block is to stay in
# the second, for the panels to come. Zen 3, two threads, GFLOP/s with copies to without: 64 x 4 x 4 to 128 channels,
# stride 2, 122 to 92; 33 x 3 x 3 to 47 169 to 84; a first layer, 7 x 7, 145 to 123.
_FIRST, _BLOCK = dense.L1, int(0.4 * dense.L2)
_LINES = 128  # bytes per pixel
_FEWEST = 64
# Bytes of partial sums in all, the most chunks, and the fewest pixels of one: a chunk writes and reads the whole
# gradient once more.
_PARTIALS = 2 * 1024 * 1024
_CHUNKS = 32
_PIXELS = 256
# Items per task, as far as an item has panels enough for a block's copy: of one tap, so many.
_ITEMS, _PANELS = 2, 8
# Floating-point operations from which a tile that fits the number of taps is worth a kernel of its own to compile.
_FITTING = 10_000_000


class Plan(NamedTuple):
    """A correlation with its blocks, the tile, each tap's place in a block and in dw, the pitch, P, and the chunks."""

    p: dense.Correlation
    mr: int
    nv: int
    together: bool  # whether a tile's rows are neighbours in a block
    a_rows: np.ndarray
    c_rows: np.ndarray
    pitch: int
    P: int  # channels of a panel
    chunks: int


@functools.lru_cache(maxsize=512)
def plan(p, dtype):
    """Return the Plan of a weight gradient."""
    itemsize = np.dtype(dtype).itemsize
    mr, nv = dense.tile(p.OG, dtype)
    P, pitch, beside = nv * simd.lanes(np.dtype(dtype)), _pitch(p.C, itemsize), 0
    if dense.operations(p) > _FITTING:
        beside = dense.together(p.CG if p.DW > 1 or pitch > p.CG else p.KW * p.CG, mr, nv)
        mr = beside or _fitting(mr, p.KH * p.KW * p.CG)
    p = _block(p, P, pitch, itemsize)
    weights = p.KH * p.KW * p.CG * p.G * p.OG * itemsize
    most = min(_CHUNKS, _PARTIALS // max(weights, 1), dense.blocks(p), p.N * p.OH * p.OW // _PIXELS)
    a_rows, c_rows = (np.pad(rows, (0, -rows.size % mr), mode="edge") for rows in _taps(p, pitch))
    return Plan(p, mr, nv, beside > 0, a_rows, c_rows, pitch, P, power_of_two(most))


def _fitting(mr, rows):
    """Return the tile's rows: `mr`, unless so few taps would leave more than 7 % of the last tile's work idle."""
    tiles = -(-rows // mr)
    return mr if tiles * mr <= 1.07 * rows else -(-rows // tiles)


def _pitch(channels, itemsize):
    """Return how far apart pixels lie in a block: an odd number of cache lines, or where they share lines no gap."""
    line = 64 // itemsize
    lines = -(-channels // line)
    return channels if channels < line else (lines + 1 - lines % 2) * line


def _block(p, P, pitch, itemsize):
    """Return `p` with its block sizes filled in."""
    rows, columns = _extent(p, p.OH)
    pixels = _FIRST // (P * itemsize + _LINES)
    # Where pixels of y are dear in x, fewer fit.
    dear = max(rows * columns, 1) * pitch * itemsize / max(p.OH * p.OW, 1)
    pixels = max(min(pixels, int(_BLOCK / dear)), min(_FEWEST, pixels), 1)
    if p.OH * p.OW <= pixels:
        return p._replace(NB=max(1, min(p.N, pixels // max(p.OH * p.OW, 1))), RB=max(p.OH, 1))
    rows = max(pixels // p.OW, 1)
    return p._replace(NB=1, RB=-(-p.OH // -(-p.OH // rows)))


def _extent(p, rows):
    """Return the rows and columns of x, zeros around it included, that so many rows of y read."""
    return ((rows - 1) * p.SH + (p.KH - 1) * p.DH + 1 if rows else 0,
            (p.OW - 1) * p.SW + (p.KW - 1) * p.DW + 1 if p.OW else 0)


def _taps(p, pitch):
    """Return the places of the taps in a block, from a pixel's first one on, and in dw."""
    kh, kw, c = (i.ravel() for i in np.indices((p.KH, p.KW, p.CG)))
    columns = _extent(p, p.RB)[1]
    a_rows = (kh * p.DH * columns + kw * p.DW) * pitch + c
    return a_rows, ((kh * p.KW + kw) * p.CG + c) * (p.G * p.OG)


def _sums(plan):
    """Return the elements of a chunk's weights and biases."""
    p = plan.p
    return p.G * p.OG * (p.KH * p.KW * p.CG + 1)


def _rooms(plan):
    """Return the elements of a task's block, and of its panel with two rows more, on cache lines of their own.

    One is for sums of dy that another task keeps, the other for zeros.
    """
    p, P = plan.p, plan.P
    rows, columns = _extent(p, p.RB)
    return tuple(-(-size // 16) * 16 for size in (p.NB * rows * columns * plan.pitch + P, (p.NB * p.RB * p.OW + 2) * P))


def memory(p, dtype):
    """Return the elements of scratch memory: blocks and panels of every task, and partial sums."""
    made = plan(p, dtype)
    return jit.threads() * sum(_rooms(made)) + (made.chunks * _sums(made) if made.chunks > 1 else 0)


def settle(p, dtype, scratch):
    """Return the function of x, dy, dw and db (flat) that fills dw and db; `scratch` is as large as `memory` says.

    What every call of a geometry repeats is settled once.
    """
    made = plan(p, dtype)
    p, chunks, (block, panel) = made.p, made.chunks, _rooms(made)
    if not dense.blocks(p):
        return _clear
    tasks = dense.worth_threads(dense.operations(p))
    cuts = _cuts(made, tasks)
    tasks = min(tasks, cuts * chunks * p.G * -(-p.OG // made.P))
    size, each = tasks * (block + panel), _sums(made)
    arguments = (each, np.array(p, np.int64), made.a_rows, made.c_rows, made.pitch, made.P,
                 scratch[:size].reshape(tasks, -1), block, chunks, _unit(made, tasks), made.mr, cuts,
                 product(made.mr, made.nv, dtype, made.together), queue(tasks), tasks)
    return in_chunks(_outer_items, arguments, chunks, p.G * p.OG, scratch[size : size + chunks * each], tasks)


def in_chunks(driver, arguments, chunks, channels, scratch, tasks):
    """Return the function of x, dy, dw and db that adds what a driver sums, chunk by chunk, into `scratch`.

    A chunk's sums are weights and, last, biases of so many channels; those of a single one are the gradients.
    """
    if chunks == 1:
        return lambda x, dy, dw, db: driver(x, dy, dw, db, *arguments)
    by_chunk = scratch.reshape(chunks, -1)
    biases = scratch[by_chunk.shape[1] - channels :]  # flat, as another type would be another kernel to compile

    def run(x, dy, dw, db):
        driver(x, dy, scratch, biases, *arguments)
        add_chunks(by_chunk, dw, db, tasks)

    return run


def _cuts(plan, tasks):
    """Return into how many runs the channels of a single tap are cut, items of their own, where else there are few."""
    p, items = plan.p, plan.chunks * -(-plan.p.OG // plan.P)
    if p.G * p.KH * p.KW > 1 or tasks == 1:
        return 1
    return max(1, min(-(-_ITEMS * tasks // items), plan.a_rows.size // plan.mr))


def _unit(plan, tasks):
    """Return how many panels of a chunk are one item: those of a chunk with a single block share its copy anyhow."""
    p, chunks = plan.p, plan.chunks
    panels = p.G * -(-p.OG // plan.P)
    if dense.blocks(p) == chunks:
        return 1
    fewest = -(-_PANELS // (p.KH * p.KW))
    return max(1, min(max(panels * chunks // (_ITEMS * tasks), fewest), panels * chunks // tasks, panels))


def _clear(x, dy, dw, db):
    """Fill dw and db where no pixel of x meets one of y."""
    tape.spoil()
    dw[:] = 0
    db[:] = 0


@jit.kernel
def _copy_block(x, p, n0, h0, images, rows, columns, c, channels, block, pitch):
    """Copy what a block reads: rows h0 .. of x and as many columns, with zeros beyond the image's edges.

    Of each pixel that are so many channels from c on.
    """
    left, begin = min(max(p.LEFT, 0), columns), max(-p.LEFT, 0)
    inside = max(min(p.W - begin, columns - left), 0)
    for line in range(images * rows):
        at, h = line * columns * pitch, h0 + line % rows
        if h < 0 or h >= p.H:
            simd.clear(block, at, columns * pitch)
            continue
        simd.clear(block, at, left * pitch)
        source, at = (((n0 + line // rows) * p.H + h) * p.W + begin) * p.C, at + left * pitch
        if pitch == channels:
            simd.copy(x, source, block, at, inside * pitch)
        else:
            for q in range(inside):
                simd.copy(x, source + q * p.C + c, block, at + q * pitch + c, channels)
        simd.clear(block, at + inside * pitch, (columns - left - inside) * pitch)


_take_panel = simd.take_panel(True)


@jit.driver
def _outer_items(x, dy, dw_sums, db_sums, each, numbers, a_rows, c_rows, pitch, P, rooms, split, chunks, unit, mr,
                cuts, micro, waiting, task, tasks):
    p, unbounded = dense.fields(numbers), x.dtype.type(-np.inf)
    panels, bands, O = (p.OG + P - 1) // P, (p.OH + p.RB - 1) // p.RB, p.G * p.OG
    count = (p.N + p.NB - 1) // p.NB * bands
    columns = (p.OW - 1) * p.SW + (p.KW - 1) * p.DW + 1
    block, panel = rooms[task, :split], rooms[task, split:]
    zeros, unused = rooms[task, rooms.shape[1] - P :], rooms[task, rooms.shape[1] - 2 * P :]
    simd.clear(zeros, 0, P)
    units = (p.G * panels + unit - 1) // unit
    items = chunks * cuts * units
    item, held = take(waiting, items, task, tasks), -1
    while item < items:
        following = upcoming(waiting, items, task, tasks)
        chunk, cut, first = item // units // cuts, item // units % cuts, item % units * unit
        last = min(first + unit, p.G * panels)
        sums, bias_sums = dw_sums[chunk * each :][: each - O], db_sums[chunk * each :][:O]
        begin = first // panels * p.OG + first % panels * P
        end = (last - 1) // panels * p.OG + min((last - 1) % panels * P + P, p.OG)
        tile, tile_end = share(a_rows.size // mr, cut, cuts)
        row, row_end = tile * mr, tile_end * mr
        c, channels = (row, min(row_end, p.C) - row) if cuts > 1 else (0, p.C)
        if cut == 0:
            simd.clear(bias_sums, begin, end - begin)
        start, stop = share(count, chunk, chunks)
        for part in range(start, stop):
            n0, band = part // bands * p.NB, part % bands
            images, oh = min(p.NB, p.N - n0), band * p.RB
            n1, n2 = min(p.RB, p.OH - oh), p.OW
            pixels, rows = images * n1 * n2, (n1 - 1) * p.SH + (p.KH - 1) * p.DH + 1
            if part * cuts + cut != held:
                _copy_block(x, p, n0, oh * p.SH - p.TOP, images, rows, columns, c, channels, block, pitch)
                held = part * cuts + cut
            # What is copied next comes from memory while this is multiplied.
            ahead, ask, after = 0, 0, part + 1
            if after == stop:
                after, _ = share(count, following // units // cuts, chunks)
            if after < count and after != part and cuts == 1:
                ahead, ask = dense.ahead_of(numbers, after, a_rows.size * (last - first))
            a0, a1, a2, b1, b2 = rows * columns * pitch, p.SH * columns * pitch, p.SW * pitch, n2 * P, P
            if n2 == 1:  # one column (a linear layer) is a long loop over rows
                n1, n2, a1, a2, b1, b2 = 1, n1, 0, a1, 0, b1
            for index in range(first, last):
                o = index // panels * p.OG + index % panels * P
                width = min(P, p.OG - index % panels * P)
                # db on the way: the sum of dy (seed 003, section 3.1.2)
                total, at = (bias_sums, o) if cut == 0 else (unused, 0)
                _take_panel(dy, ((n0 * p.OH + oh) * p.OW) * O + o, O, panel, P, pixels, total, at, width)
                init, i0, si = (zeros, 0, 0) if part == start else (sums, o, 1)
                multiply(micro, row, row_end, block, index // panels * p.CG, a_rows, images, n1, n2,
                        a0, a1, a2, panel, 0, pixels // images * P, b1, b2, init, i0, si, sums, o, c_rows, width,
                        unbounded, x, ahead + (index - first) * a_rows.size * ask, ask)
        item = take(waiting, items, task, tasks)


@jit.driver
def add_chunks(partials, dw, db, task, tasks):
    """Add the chunks' partial sums in order: the same bits however many tasks share the weights."""
    for total, at in ((dw, 0), (db, dw.size)):
        first, last = share(total.size, task, tasks)
        _add_rows(partials, at + first, total[first:last])


@jit.kernel(from_python=False)
def _add_rows(partials, at, total):
    """Add up what the rows hold from `at` on, row after row: the columns of a two-axis slice would not be vectors."""
    simd.copy(partials[0], at, total, 0, total.size)
    for chunk in range(1, partials.shape[0]):
        row = partials[chunk, at : at + total.size]
        for i in range(row.size):
            total[i] += row[i]
