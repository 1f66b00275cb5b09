"""The depthwise correlation on the GPU, one kernel per channel: a pass over memory, neighbouring threads on
neighbouring channels.
"""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops import cuda_moves as moves
from nbprop.ops.cuda_outer import sum_parts

__all__ = ["correlate", "outer"]

_CHANNELS = 32  # that a block of the weight gradient sums: a warp reads one cache line of them
_PARTS, _PIXELS = 256, 64  # of the pixels, at most; of a part, at least


@functools.cache
def _sizes(p, taps):
    return moves.table(p, p.Y0, p.YN, p.YH, p.YW, *taps[:5])


def correlate(x, w, b, y, p, floor, taps=None):
    """Fill the part of y that correlation `p` makes; flat arrays, `taps` as in cuda_correlate."""
    elements = p.N * p.OH * p.OW * p.C
    if elements:
        taps = taps or (p.KH - 1, -1, p.KW - 1, -1, p.KW)
        b = w[:0] if b is None else b
        _correlation[gpu.blocks(elements), gpu.THREADS](x, w, b, y, floor, _sizes(p, tuple(taps)))


@gpu.kernel
def _correlation(x, w, b, y, floor, sizes):
    pixels, H, W, C, _, _, KH, KW, SH, SW, DH, DW, TOP, LEFT, OH, OW = moves.geometry(sizes)
    Y0, YN, YH, YW = moves.four(sizes, 16)
    KH0, KHS, KW0, KWS = moves.four(sizes, 20)
    KWW = sizes[24]
    for i in range(cuda.grid(1), np.int64(pixels) * C, cuda.gridsize(1)):
        pixel, c = np.uint32(i // C), i % C
        ow, line = pixel % np.uint32(OW), pixel // np.uint32(OW)
        oh, n = line % np.uint32(OH), line // np.uint32(OH)
        top, left = np.int32(oh) * SH - TOP, np.int32(ow) * SW - LEFT
        z = x.dtype.type(0)
        if b.size > 0:
            z = b[c]
        for kh in range(KH):
            h = top + kh * DH
            if h >= 0 and h < H:
                tap = (KH0 + KHS * (KH - 1 - kh)) * KWW
                for kw in range(KW):
                    v = left + kw * DW
                    if v >= 0 and v < W:
                        term = (tap + KW0 + KWS * (KW - 1 - kw)) * np.int64(C) + c
                        z += x[((np.int64(n) * H + h) * W + v) * C + c] * w[term]
        y[Y0 + np.int64(n) * YN + np.int64(oh) * YH + np.int64(ow) * YW + c] = floor if z < floor else z


def outer(x, dy, dw, db, p, scratch):
    """Fill dw (KH, KW, C) and db (C); flat arrays."""
    pixels = p.N * p.OH * p.OW
    width = min(_CHANNELS, gpu.THREADS)
    parts = max(1, min(_PARTS, pixels // _PIXELS))
    room = scratch.room(parts * (p.KH * p.KW + 1) * p.C)
    sums = _sums(p.KH, p.KW, gpu.THREADS, width, x.dtype)
    sums[(parts, -(-p.C // width)), gpu.THREADS](x, dy, room, _sizes(p, (0,) * 5))
    sum_parts(room, dw, db, parts)


@functools.cache
def _sums(KH, KW, threads, width, dtype):
    """Sum over the pixels of part blockIdx.x, for `width` channels; the pixels go round the block's threads."""
    total, number, TAPS = gpu.reduction(gpu.add, threads, dtype, width), gpu.from_dtype(dtype), KH * KW
    SUMS = TAPS + 1  # the last is the bias's

    @gpu.kernel(launch_bounds=threads)
    def sums(x, dy, parts, sizes):
        acc = cuda.local.array(SUMS, number)
        pixels, H, W, C, _, _, _, _, SH, SW, DH, DW, TOP, LEFT, OH, OW = moves.geometry(sizes)
        part, count, t = cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x
        c = cuda.blockIdx.y * width + t % width
        for k in range(SUMS):
            acc[k] = 0
        if c < C:
            begin, stop = np.int64(pixels) * part // count, np.int64(pixels) * (part + 1) // count
            for i in range(begin + t // width, stop, threads // width):
                pixel = np.uint32(i)
                ow, line = pixel % np.uint32(OW), pixel // np.uint32(OW)
                oh, n = line % np.uint32(OH), line // np.uint32(OH)
                d = dy[i * C + c]
                acc[TAPS] += d
                for kh in range(KH):
                    for kw in range(KW):
                        h, v = np.int32(oh) * SH - TOP + kh * DH, np.int32(ow) * SW - LEFT + kw * DW
                        if h >= 0 and h < H and v >= 0 and v < W:
                            acc[kh * KW + kw] += x[((np.int64(n) * H + h) * W + v) * C + c] * d
        for k in range(SUMS):
            whole = total(acc[k])
            if t < width and c < C:
                parts[(np.int64(part) * SUMS + k) * C + c] = whole

    return sums
