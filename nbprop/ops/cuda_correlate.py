"""The dense correlation on the GPU, an implicit matrix product: convolution's forward pass, its input gradient, and
the linear layer's.

Rows are output pixels, columns output channels, terms (kh, kw, c) with c fastest: a thread's quad of terms is four
channels of one pixel of x. Tables in shared memory say where each row's window begins. The weights are read as they
are: their rows (kh, kw, c) are terms forward; in the input gradient, they are columns (`turned`), taps in reverse.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops import cuda_moves as moves
from nbprop.ops import cuda_tile as tiles

__all__ = ["Groups", "Taps", "correlate"]

_OUTSIDE = -(1 << 30)  # the first row of windows that no output pixel has: none of it lies in the image


class Taps(NamedTuple):
    """Tap t of a correlation is tap KH0 + KHS (KH - 1 - t) of the weights (KHW, KWW, CW, OW); columns alike."""

    KH0: int
    KHS: int
    KW0: int
    KWS: int
    KWW: int
    CW: int


class Groups(NamedTuple):
    """Columns of w, and how far the groups of a correlation are apart in x, in w's columns or w, in y."""

    columns: int
    x: int
    w: int
    y: int


def correlate(x, w, b, y, p, floor, taps=None, groups=None):
    """Fill the part of y that correlation `p` makes: max(x correlated with w, plus b, `floor`); flat arrays.

    Without `taps`, w is (KH, KW, CG, O), its columns p's output channels; with them, its rows are. `groups` says
    where those lie that are not a convolution's.
    """
    if p.N * p.OH * p.OW * p.OG:
        choice = tiles.TILES[x.dtype.itemsize], tiles.multiplication(x.dtype)
        kernel, grid, threads, table = _launch(p, taps, groups, x.dtype, moves.aligned(x, w, y), *choice)
        kernel[grid, threads](x, w, w[:0] if b is None else b, y, floor, table)


@functools.cache
def _launch(p, taps, groups, dtype, fit, choice, multiply):
    """Choose the kernel of a correlation; return it, its grid, its threads, and the numbers that it needs."""
    rows = p.N * p.OH * p.OW
    if groups is None:
        groups = Groups(p.G * p.OG, p.CG, p.OG, p.OG) if taps is None else Groups(p.C, p.CG, p.CG, p.OG)
    tile = tiles.fitting(choice, rows, p.OG, p.G)
    wide = 4 if fit and p.CG % 4 == 0 and p.C % 4 == 0 else 1
    wide_w = wide if taps is not None else 4 if fit and p.OG % 4 == 0 else 1
    wide_y = 4 if fit and p.OG % 4 == 0 and (p.Y0 | p.YN | p.YH | p.YW) % 4 == 0 else 1
    made = _kernel(tile, gpu.from_dtype(dtype), multiply, wide, wide_w, wide_y, taps is not None)
    table = moves.table(p, *groups[1:], groups.columns, p.Y0, p.YN, p.YH, p.YW, *(taps or (0,) * 6))
    return made, (-(-rows // tile.BM), -(-p.OG // tile.BN), p.G), tile.threads, table


@functools.cache
def _kernel(tile, number, multiply, V, VW, VY, turned):
    BM, BN, BK, TM, TN = tile
    form = multiply(tile, number)
    step, row, column, LA, LB, width = form.step, form.row, form.column, form.LA, form.LB, form.V
    threads, aligned = tile.threads, gpu.ALIGNED
    BOUNDS = threads, -(-tiles.RESIDENT // threads)
    SA, SB = 2 * BK * LA, 2 * BK * LB
    QUADS, RA = BK // V, threads * V // BK  # a row's groups of terms; rows that all threads read at once
    NA = BM // RA
    RB = threads * V // BK if turned else threads * VW // BN
    NB = BN // RB if turned else BK // RB
    VB, LINE = V if turned else VW, BN // VW
    read, read_columns = moves.windows_reader(NA, V, RA), moves.columns_reader(NB, V, RB)
    read_rows = moves.rows_reader(NB, VW, RB)
    put_a, put_b = (moves.transposed(*which, form.converted) for which in ((NA, V, RA, LA), (NB, V, RB, LB)))
    put_rows = moves.straight(NB, VW, RB, LB, form.converted)
    finish, write = _finisher(TM, TN, width, column), moves.results_writer(TM, TN, width, VY, row, column)

    @gpu.kernel(launch_bounds=BOUNDS)
    def correlation(x, w, b, y, floor, sizes):
        sa = cuda.shared.array(SA, number, alignment=aligned)
        sb = cuda.shared.array(SB, number, alignment=aligned)
        source = cuda.shared.array(BM, gpu.int64)
        target = cuda.shared.array(BM, gpu.int64)
        top = cuda.shared.array(BM, gpu.int32)
        left = cuda.shared.array(BM, gpu.int32)
        acc = cuda.local.array((TM, TN), number)
        qa = cuda.local.array((NA, V), number)
        qb = cuda.local.array((NB, VB), number)
        M, H, W, C, CG, OG, KH, KW, SH, SW, DH, DW, TOP, LEFT, OH, OW = moves.geometry(sizes)
        XG, WG, YG, columns = moves.four(sizes, 16)
        Y0, YN, YH, YW = moves.four(sizes, 20)
        t, group = cuda.threadIdx.x, cuda.blockIdx.z
        first, n0 = cuda.blockIdx.x * BM, np.int32(cuda.blockIdx.y * BN)
        for r in range(t, BM, threads):
            top[r] = _OUTSIDE
            if first + r < M:
                pixel = np.uint32(first + r)
                ow, line = pixel % np.uint32(OW), pixel // np.uint32(OW)
                oh, n = line % np.uint32(OH), line // np.uint32(OH)
                top[r], left[r] = np.int32(oh) * SH - TOP, np.int32(ow) * SW - LEFT
                source[r] = ((np.int64(n) * H + top[r]) * W + left[r]) * C + group * XG
                target[r] = Y0 + np.int64(n) * YN + np.int64(oh) * YH + np.int64(ow) * YW + group * YG
        for i in range(TM):
            for j in range(TN):
                acc[i, j] = 0
        cuda.syncthreads()
        K = np.int32(KH * KW * CG)
        ka, ra = np.int32(t % QUADS * V), np.int32(t // QUADS)
        kb, nb = np.int32(t // LINE), np.int32(t % LINE * VW)
        kh, kw, c = _split(ka, KW, CG)
        now = np.int32(0)
        for k0 in range(np.int32(-BK), K, np.int32(BK)):  # terms that are read; those before them are multiplied
            if k0 + BK < K:
                read(x, qa, source, top, left, ra, kh, kw, c, KH, DH, DW, H, W, C)
                if turned:
                    read_columns(w, qb, n0 + ra, kh, kw, group * WG + c, KH, KW, columns, sizes)
                else:
                    read_rows(w, qb, k0 + BK + kb, K, n0 + nb, OG, group * WG, columns)
                kh, kw, c = _ahead(kh, kw, np.int32(c + BK), KW, CG)
            if k0 >= 0:
                step(acc, sa, now * (BK * LA), sb, now * (BK * LB), t)
                now = np.int32(1 - now)
            if k0 + BK < K:
                put_a(sa, now * (BK * LA), qa, ka, ra)
                if turned:
                    put_b(sb, now * (BK * LB), qb, ka, ra)
                else:
                    put_rows(sb, now * (BK * LB), qb, kb, nb)
                cuda.syncthreads()
        finish(acc, b, floor, n0, OG, group * OG, t)
        write(acc, y, target, M - first, n0, OG, t)

    return correlation


@functools.cache
def _finisher(TM, TN, V, column):
    @gpu.device
    def finish(acc, b, floor, n0, stop, first, t):
        for j in range(TN // V):
            for k in range(V):
                n = n0 + column(t, j) + k
                bias = b[np.uint64(first + n)] if n < stop and b.size > 0 else b.dtype.type(0)
                for i in range(TM):
                    z = acc[i, V * j + k] + bias
                    acc[i, V * j + k] = floor if z < floor else z  # a NaN passes

    return finish


@gpu.device
def _split(k, KW, CG):
    """Return (kh, kw, c) of term k."""
    if KW == 0 or CG == 0:
        return np.int32(0), np.int32(0), np.int32(0)
    tap = np.uint32(k) // np.uint32(CG)
    return np.int32(tap // np.uint32(KW)), np.int32(tap % np.uint32(KW)), np.int32(np.uint32(k) % np.uint32(CG))


@gpu.device
def _ahead(kh, kw, c, KW, CG):
    """Carry what of c passes CG over to the taps."""
    while c >= CG:
        c = np.int32(c - CG)
        kw = np.int32(kw + 1)
        if kw == KW:
            kw = np.int32(0)
            kh = np.int32(kh + 1)
    return kh, kw, c
