"""The weight gradient on the GPU: a matrix product over pixels, cut into parts that are then added in order.

Rows are terms (kh, kw, c), columns output channels, and the sum goes over the pixels of dy:

    dw[(kh, kw, c), o] = sum of x[n, oh SH - TOP + kh DH, ow SW - LEFT + kw DW, c] dy[n, oh, ow, o]

One more row, of ones in place of x, is db. Where rows and columns make few blocks, the pixels are cut into parts;
how many depends on the sizes alone, so that a run gives the same bits again.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops import cuda_moves as moves
from nbprop.ops import cuda_tile as tiles
from nbprop.ops.cuda_pixels import vectors

__all__ = ["Groups", "outer", "run", "sum_parts", "sum_rows"]

_BLOCKS = 512  # wanted: a few for every multiprocessor
_PIXELS = 256  # at least, of a part
_CHANNELS = 32  # that a block sums side by side
_ROOM = 1 << 26  # elements at most, of all parts


def outer(x, dy, dw, db, p, scratch):
    """Fill dw (KH, KW, CG, G OG) and db (G OG); flat arrays. `scratch` is a gpu.Scratch of their dtype."""
    rows = p.KH * p.KW * p.CG + 1
    run(x, dy, dw, db, p, rows, Groups(p.G * p.OG, p.CG, p.OG, p.OG), scratch)


class Groups(NamedTuple):
    """Elements between rows of dw, and pixels of dy, and how far the groups are apart in x, dy and dw."""

    columns: int
    x: int
    dy: int
    dw: int


def run(x, dy, dw, db, p, rows, groups, scratch, scale=1):
    """Fill dw, and db if `rows` has one for it, with `scale` times the sums."""
    choice = tiles.TILES[x.dtype.itemsize], tiles.multiplication(x.dtype), _PIXELS
    fit, size = moves.aligned(x, dy), dw.size + db.size
    kernel, grid, threads, parts, table = _launch(p, rows, groups, size, x.dtype, fit, *choice)
    room = scratch.room(parts * size)
    kernel[grid, threads](x, dy, room, table)
    sum_parts(room, dw, db, parts, scale)


@functools.cache
def _launch(p, rows, groups, size, dtype, fit, choice, multiply, least):
    """Choose the kernel of a product; return it, its grid, its threads, the parts, and the numbers that it needs."""
    wide = 4 if fit and p.CG % 4 == 0 and p.C % 4 == 0 else 1
    wide_dy = 4 if fit and p.OG % 4 == 0 else 1
    tile = tiles.fitting(choice, rows, p.OG, 1 << 30, wide)
    blocks, pixels = -(-rows // tile.BM) * -(-p.OG // tile.BN), p.N * p.OH * p.OW
    parts = max(1, min(_BLOCKS // (blocks * p.G), pixels // least, _ROOM // max(size, 1)))
    depth = -(-pixels // (parts * tile.BK)) * tile.BK
    made = _kernel(tile, gpu.from_dtype(dtype), multiply, wide, wide_dy)
    grid = -(-rows // tile.BM), -(-p.OG // tile.BN), p.G * parts
    return made, grid, tile.threads, parts, moves.table(p, *groups, parts, depth, rows, size)


@functools.cache
def _kernel(tile, number, multiply, V, VB):
    BM, BN, BK, TM, TN = tile
    form = multiply(tile, number)
    step, row, column, LA, LB, width = form.step, form.row, form.column, form.LA, form.LB, form.V
    threads, aligned = tile.threads, gpu.ALIGNED
    BOUNDS = threads, -(-tiles.RESIDENT // threads)
    SA, SB = 2 * BK * LA, 2 * BK * LB
    RA, RB = threads * V // BM, threads * VB // BN
    NA, NB = BK // RA, BK // RB
    LINE, LINE_B = BM // V, BN // VB
    read_x, read_dy = _pixels_reader(NA, V, RA), moves.rows_reader(NB, VB, RB)
    put_x, put_dy = (moves.straight(*which, form.converted) for which in ((NA, V, RA, LA), (NB, VB, RB, LB)))
    write = moves.results_writer(TM, TN, width, VB, row, column)

    @gpu.kernel(launch_bounds=BOUNDS)
    def outer_product(x, dy, parts, sizes):
        sa = cuda.shared.array(SA, number, alignment=aligned)
        sb = cuda.shared.array(SB, number, alignment=aligned)
        target = cuda.shared.array(BM, gpu.int64)
        acc = cuda.local.array((TM, TN), number)
        qa = cuda.local.array((NA, V), number)
        qb = cuda.local.array((NB, VB), number)
        pixels, H, W, C, CG, OG, KH, KW, SH, SW, DH, DW, TOP, LEFT, OH, OW = moves.geometry(sizes)
        columns, XG, DG, TG = moves.four(sizes, 16)
        count, depth, rows, size = moves.four(sizes, 20)
        t, group, part = cuda.threadIdx.x, cuda.blockIdx.z // count, cuda.blockIdx.z % count
        m0, n0 = np.int32(cuda.blockIdx.x * BM), np.int32(cuda.blockIdx.y * BN)
        M = KH * KW * CG
        for r in range(t, BM, threads):
            target[r] = part * size + group * TG + (m0 + r) * columns
        for i in range(TM):
            for j in range(TN):
                acc[i, j] = 0
        cuda.syncthreads()
        ma, ra = np.int32(t % LINE * V), np.int32(t // LINE)
        nb, rb = np.int32(t % LINE_B * VB), np.int32(t // LINE_B)
        m, M = np.int32(m0 + ma), np.int32(M)
        tap, c = np.uint32(m) // np.uint32(CG), np.uint32(m) % np.uint32(CG)
        down = np.int32(np.int32(tap // np.uint32(KW)) * DH - TOP)
        right = np.int32(np.int32(tap % np.uint32(KW)) * DW - LEFT)
        channel = group * XG + np.int32(c)
        begin = np.int32(part * depth)
        stop = np.int32(min(begin + depth, pixels))
        now = np.int32(0)
        for k0 in range(np.int32(begin - BK), stop, np.int32(BK)):  # pixels that are read
            if k0 + BK < stop:
                read_x(x, qa, k0 + BK + ra, stop, m, M, down, right, channel, H, W, C, SH, SW, OH, OW)
                read_dy(dy, qb, k0 + BK + rb, stop, n0 + nb, OG, group * DG, columns)
            if k0 >= begin:
                step(acc, sa, now * (BK * LA), sb, now * (BK * LB), t)
                now = np.int32(1 - now)
            if k0 + BK < stop:
                put_x(sa, now * (BK * LA), qa, ra, ma)
                put_dy(sb, now * (BK * LB), qb, rb, nb)
                cuda.syncthreads()
        write(acc, parts, target, rows - m0, n0, OG, t)

    return outer_product


@functools.cache
def _pixels_reader(N, V, apart):
    """x at one tap and channel of the windows of pixels k, k + apart, ... below `stop`; ones in row M."""
    get, _ = vectors(V)

    @gpu.device
    def read(x, q, k, stop, m, M, down, right, channel, H, W, C, SH, SW, OH, OW):
        for i in range(N):
            for j in range(V):
                q[i, j] = 0
            if k + i * apart < stop:
                pixel = np.uint32(k + i * apart)
                ow, line = pixel % np.uint32(OW), pixel // np.uint32(OW)
                oh, n = line % np.uint32(OH), line // np.uint32(OH)
                h, v = np.int32(np.int32(oh) * SH + down), np.int32(np.int32(ow) * SW + right)
                if m == M:
                    q[i, 0] = 1
                elif m < M and h >= 0 and h < H and v >= 0 and v < W:
                    get(x, ((np.int64(n) * H + h) * W + v) * C + channel, q[i])

    return read


def sum_rows(a, total, scratch):
    """Fill total (C) with the sum of a (rows, C): blocks of rows and channels first, then in order."""
    rows, columns = a.shape
    width = min(_CHANNELS, gpu.THREADS)
    parts = max(1, min(_BLOCKS, rows // _PIXELS))
    room = scratch.room(parts * columns)
    _row_sums(gpu.THREADS, width, a.dtype)[(parts, -(-columns // width)), gpu.THREADS](a, room)
    sum_parts(room, total, total[:0], parts)


@functools.cache
def _row_sums(threads, width, dtype):
    total = gpu.reduction(gpu.add, threads, dtype, width)

    @gpu.kernel
    def row_sums(a, parts):
        rows, columns = a.shape
        part, count, t = cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x
        c = cuda.blockIdx.y * width + t % width
        mine = a.dtype.type(0)
        if c < columns:
            for r in range(rows * part // count + t // width, rows * (part + 1) // count, threads // width):
                mine += a[r, c]
        mine = total(mine)
        if t < width and c < columns:
            parts[part * columns + c] = mine

    return row_sums


def sum_parts(parts, dw, db, count, scale=1):
    """Add `count` parts, each of dw and then db, in order, and multiply by `scale`."""
    if dw.size + db.size:
        _sum_parts[gpu.blocks(dw.size + db.size), gpu.THREADS](parts, dw, db, count, dw.dtype.type(scale))


@gpu.kernel
def _sum_parts(parts, dw, db, count, scale):
    size = dw.size + db.size
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        total = parts[i]
        for part in range(1, count):
            total += parts[part * size + i]
        if i < dw.size:
            dw[i] = scale * total
        else:
            db[i - dw.size] = scale * total
