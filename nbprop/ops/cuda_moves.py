"""What dense kernels move: terms of images and weights to registers, registers to shared memory and to results.

Each maker returns a device function for N groups of V neighbours (4, read at once, or 1) that stand `apart` rows
apart. Shared memory holds sa[k, m]: neighbouring terms of one row go to different rows of it (`transposed`),
neighbouring rows of one term lie side by side (`straight`).
"""

import functools

import numpy as np

from nbprop import gpu
from nbprop.ops.cuda_pixels import vectors
from nbprop.ops.cuda_quads import put_quad

__all__ = ["aligned", "columns_reader", "four", "geometry", "results_writer", "rows_reader", "straight", "table",
           "transposed", "windows_reader"]


def aligned(*arrays):
    """Say whether quads of all arrays may be read at once: where other libraries begin an array is their choice."""
    return all(a.address % 16 == 0 for a in arrays)


def table(p, *more):
    """Put the numbers of correlation `p`, and more, on the GPU: as arguments each would cost every launch time."""
    numbers = (p.N * p.OH * p.OW, p.H, p.W, p.C, p.CG, p.OG, p.KH, p.KW, p.SH, p.SW, p.DH, p.DW, p.TOP, p.LEFT, p.OH,
               p.OW, *more)
    return gpu.to_device(np.array(numbers, np.int64))


@gpu.device
def geometry(sizes):
    """Return pixels, H, W, C, CG, OG, KH, KW, SH, SW, DH, DW, TOP, LEFT, OH, OW of a table."""
    return (np.int32(sizes[0]), np.int32(sizes[1]), np.int32(sizes[2]), np.int32(sizes[3]), np.int32(sizes[4]),
            np.int32(sizes[5]), np.int32(sizes[6]), np.int32(sizes[7]), np.int32(sizes[8]), np.int32(sizes[9]),
            np.int32(sizes[10]), np.int32(sizes[11]), np.int32(sizes[12]), np.int32(sizes[13]), np.int32(sizes[14]),
            np.int32(sizes[15]))


@gpu.device
def four(sizes, i):
    """Return four numbers of a table."""
    return sizes[i], sizes[i + 1], sizes[i + 2], sizes[i + 3]


@gpu.device
def _clear(q):
    for j in range(q.size):
        q[j] = 0


@functools.cache
def windows_reader(N, V, apart):
    """x at tap (kh, kw) and channel c of the windows of rows r, r + apart, ...; zero outside the image."""
    get, _ = vectors(V)

    @gpu.device
    def read(x, q, source, top, left, r, kh, kw, c, KH, DH, DW, H, W, C):
        down, right = np.int32(kh * DH), np.int32(kw * DW)
        shift = np.int32((down * W + right) * C + c)
        for i in range(N):
            h, v = np.int32(top[r + i * apart] + down), np.int32(left[r + i * apart] + right)
            if kh < KH and h >= 0 and h < H and v >= 0 and v < W:
                get(x, source[r + i * apart] + shift, q[i])
            else:
                _clear(q[i])

    return read


@functools.cache
def columns_reader(N, V, apart):
    """Weights of tap (kh, kw), in reverse, and column o, for their rows n, n + apart, ... of CW."""
    get, _ = vectors(V)

    @gpu.device
    def read(w, q, n, kh, kw, o, KH, KW, columns, sizes):
        KH0, KHS, KW0, KWS = four(sizes, 24)
        KWW, CW = sizes[28], sizes[29]
        line = np.int64(((KH0 + KHS * (KH - 1 - kh)) * KWW + KW0 + KWS * (KW - 1 - kw)) * CW)
        for i in range(N):
            if kh < KH and n + i * apart < CW:
                get(w, (line + n + i * apart) * columns + o, q[i])
            else:
                _clear(q[i])

    return read


@functools.cache
def rows_reader(N, V, apart):
    """a[k, n + first] of rows k, k + apart, ... below K, while n is below `stop`."""
    get, _ = vectors(V)

    @gpu.device
    def read(a, q, k, K, n, stop, first, columns):
        for i in range(N):
            if k + i * apart < K and n < stop:
                get(a, np.int64(k + i * apart) * columns + first + n, q[i])
            else:
                _clear(q[i])

    return read


@functools.cache
def transposed(N, V, apart, line, converted):
    """Put q[i, j] to row k + j and column r + i apart of shared memory."""

    @gpu.device
    def put(shared, start, q, k, r):
        for i in range(N):
            for j in range(V):
                shared[np.uint32(start + (k + j) * line + r + i * apart)] = converted(q[i, j])

    return put


@functools.cache
def straight(N, V, apart, line, converted):
    """Put q[i, j] to row k + i apart and column n + j of shared memory."""

    @gpu.device
    def put(shared, start, q, k, n):
        for i in range(N):
            at = start + (k + i * apart) * line + n
            if V == 4:
                put_quad(shared, at, converted(q[i, 0]), converted(q[i, 1]), converted(q[i, 2]), converted(q[i, 3]))
            else:
                shared[np.uint32(at)] = converted(q[i, 0])

    return put


@functools.cache
def results_writer(TM, TN, V, VY, row, column):
    """Put acc to y[target[r] + n], for the thread's rows r below `rows` and columns n below `stop`."""

    @gpu.device
    def write(acc, y, target, rows, n0, stop, t):
        for i in range(TM):
            r = row(t, i)
            if r < rows:
                for j in range(TN // V):
                    n = n0 + column(t, j)
                    at = target[r] + n
                    if V == 4 and VY == 4:
                        if n < stop:
                            put_quad(y, at, acc[i, 4 * j], acc[i, 4 * j + 1], acc[i, 4 * j + 2], acc[i, 4 * j + 3])
                    else:
                        for k in range(V):
                            if n + k < stop:
                                y[np.uint64(at + k)] = acc[i, V * j + k]

    return write
