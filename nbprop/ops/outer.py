"""The weight gradient of everything dense: a sum over pixels of (input at a tap) x (output gradient).

    dw[k][o] = sum over n, oh, ow of x[n, oh SH + kh DH - TOP, ow SW + kw DW - LEFT, c] dy[n, oh, ow, o],   k = (kh, kw, c)

Rows of the micro-kernel are taps k, lanes are output channels, and the three loops run over the pixels of a block:
nothing is packed. The blocks are dealt to a fixed number of chunks, whose partial sums are added in order, so that
the result has the same bits for any number of threads.
"""

import functools

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops import dense, simd

__all__ = ["outer", "partials_shape", "plan"]

# Bytes of partial sums in all, and the most chunks: the sums are written and read once more than the gradient itself.
_PARTIALS = 2 * 1024 * 1024
_CHUNKS = 32


@functools.lru_cache(maxsize=512)
def plan(p, dtype):
    """Return (p with its blocks, MR, NV, a_rows, c_rows, chunks, zeros) for a weight gradient; cached per geometry."""
    p = dense.block(p, dtype)
    mr, nv = dense.tile(p.OG, dtype)
    mr = _fitting(mr, p.KH * p.KW * dense.depth(p))
    kh, kw, c = (i.ravel() for i in np.indices((p.KH, p.KW, dense.depth(p))))
    last = -(-kh.size // mr) * mr - kh.size
    a_rows = np.pad((kh * p.DH * p.WP + kw * p.DW) * p.CS + c, (0, last), mode="edge")
    c_rows = np.pad(np.arange(kh.size) * (p.G * p.OG), (0, last), mode="edge")
    weights = kh.size * p.G * p.OG * np.dtype(dtype).itemsize
    chunks = max(1, min(_CHUNKS, _PARTIALS // max(weights, 1), dense.blocks(p)))
    return p, mr, nv, a_rows, c_rows, chunks, np.zeros(nv * simd.lanes(np.dtype(dtype)), dtype)


def _fitting(mr, rows):
    """Return the tile's rows: `mr`, unless so few taps would leave more than 7 % of the last tile's work idle."""
    tiles = -(-rows // mr)
    return mr if tiles * mr <= 1.07 * rows else -(-rows // tiles)


def partials_shape(p, dtype):
    """Return (chunks, weights and biases) of the partial sums; a single chunk needs none."""
    p, *_, chunks, _ = plan(p, dtype)
    return (chunks, p.G * p.OG * (p.KH * p.KW * dense.depth(p) + 1)) if chunks > 1 else (0, 0)


def outer(x, dy, dw, db, p, scratch, partials):
    """Fill dw and db (flat) from x and dy (flat).

    `scratch` is (tasks, dense.scratch_size), `partials` is (chunks, partials_shape).
    """
    p, mr, nv, a_rows, c_rows, chunks, zeros = plan(p, x.dtype)
    if dense.blocks(p) == 0:
        dw[:] = 0
        db[:] = 0
        return
    panels = p.G * -(-p.OG // zeros.size)
    tasks = min(dense.worth_threads(dense.operations(p)), scratch.shape[0], panels * chunks)
    if chunks == 1:
        dw_sums, db_sums = dw.reshape(1, -1), db.reshape(1, -1)
    else:
        dw_sums, db_sums = partials[:, : dw.size], partials[:, dw.size :]
    serial, parallel = _kernels(mr, nv, bool(p.LANEWISE))
    arguments = (x, dy, dw_sums, db_sums, zeros, p, a_rows, c_rows, chunks, scratch)
    if tasks == 1:
        serial(*arguments, 0, 1)
    else:
        parallel(*arguments, tasks)
    if chunks > 1:
        add_chunks(partials, dw, db, tasks)


@functools.cache
def _kernels(mr, nv, lanewise):
    """Make the serial kernel for one tile size, and the driver that runs it over tasks."""
    whole, part = simd.product(mr, nv, False, lanewise), simd.product(mr, nv, True, lanewise)
    pad = dense.pad

    @jit.kernel
    def outer_task(x, dy, dw_sums, db_sums, zeros, p, a_rows, c_rows, chunks, scratch, task, tasks):
        P = zeros.size
        panels = (p.OG + P - 1) // P
        O = p.G * p.OG
        K = p.KH * p.KW if lanewise else p.KH * p.KW * p.CG
        bands = (p.OH + p.RB - 1) // p.RB
        count = (p.N + p.NB - 1) // p.NB * bands
        work = chunks * p.G * panels
        unbounded = x.dtype.type(-np.inf)
        own = scratch[task]
        for item in range(task * work // tasks, (task + 1) * work // tasks):
            chunk, g, panel = item // (p.G * panels), item // panels % p.G, item % panels
            sums = dw_sums[chunk]
            o = g * p.OG + panel * P
            width = min(P, p.OG - panel * P)
            bias_sums = db_sums[chunk, o : o + width]
            bias_sums[:] = 0
            first, last = chunk * count // chunks, (chunk + 1) * count // chunks
            for block in range(first, last):
                n0, r0 = block // bands * p.NB, block % bands * p.RB
                images, rows = min(p.NB, p.N - n0), min(p.RB, p.OH - r0)
                if p.DIRECT:
                    a, a0 = x, (n0 * p.H + r0 * p.SH) * p.W * p.C
                else:
                    pad(x, own, p, g, n0, images, r0, rows)
                    a, a0 = own, 0
                if lanewise:
                    a0 += o
                b0 = (n0 * p.OH + r0) * p.OW * O + o
                _add_rows(dy, b0, images, p.OH * p.OW * O, rows * p.OW, O, bias_sums)
                init, i0, si = sums, o, 1
                if block == first:
                    init, i0, si = zeros, 0, 0
                # A map one pixel wide (a linear layer) is a long loop over rows.
                n1, n2, a1, a2, b1, b2 = rows, p.OW, p.SH * p.WP * p.CS, p.SW * p.CS, p.OW * O, O
                if p.OW == 1:
                    n1, n2, a1, a2, b1, b2 = 1, rows, 0, a1, 0, O
                for k in range(0, K, mr):
                    if width == P:
                        whole(k, a, a0, a_rows, images, n1, n2, p.HP * p.WP * p.CS, a1, a2,
                              dy, b0, p.OH * p.OW * O, b1, b2, init, i0, si, sums, o, c_rows, width, unbounded)
                    else:
                        part(k, a, a0, a_rows, images, n1, n2, p.HP * p.WP * p.CS, a1, a2,
                             dy, b0, p.OH * p.OW * O, b1, b2, init, i0, si, sums, o, c_rows, width, unbounded)

    @jit.driver
    def outer_tasks(x, dy, dw_sums, db_sums, zeros, p, a_rows, c_rows, chunks, scratch, tasks):
        for task in prange(tasks):
            outer_task(x, dy, dw_sums, db_sums, zeros, p, a_rows, c_rows, chunks, scratch, task, tasks)

    return outer_task, outer_tasks


@jit.kernel
def _add_rows(dy, start, images, image, pixels, O, sums):
    """Add the pixels' output gradients to the bias sums (seed 003, section 3.1.2)."""
    for n in range(images):
        for q in range(pixels):
            at = start + n * image + q * O
            row = dy[at : at + sums.size]
            for o in range(sums.size):
                sums[o] += row[o]


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
        mine = total[first:last]
        mine[:] = sums[0, first:last]
        for chunk in range(1, partials.shape[0]):
            part = sums[chunk, first:last]
            for i in range(mine.size):
                mine[i] += part[i]


@jit.driver
def _add_chunks_tasks(partials, dw, db, tasks):
    for task in prange(tasks):
        _add_chunks(partials, dw, db, task, tasks)
