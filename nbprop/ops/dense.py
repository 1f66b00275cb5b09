"""Blocks of pixels, panels of channels: how the dense ops are cut for the micro-kernel.

A correlation reads a block of output pixels at a time. The input rows that the block needs are copied, with their
zero border, into a scratch that stays in cache (or are read in place where there is no border):

    scratch[image][row][column][channel]    HP rows of WP columns of CS channels per image

so that a tap (kh, kw) of any pixel is one fixed offset away, and a table with the start of each pixel is all that
stride, dilation and padding come to. Weights are read as panels of P = NV x L output channels:

    panel[kh][kw][c][P]                     zero beyond the last channel
"""

from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import simd

__all__ = ["Correlation", "block", "blocks", "depth", "offsets", "operations", "pad", "tile", "worth_threads"]

# Bytes of scratch per block. Measured on an AMD EPYC (Zen 5, 48 KiB L1, 1 MiB L2 per core): half of L2 holds the
# block and a panel together.
_BLOCK = 192 * 1024
# Weights that do not stay in L2 are read from further away once per block: its pixels must be worth it (14 tiles of
# 14; 7x7 maps of 512 channels ran 15 % faster with four images per block than with one).
_LARGE_WEIGHTS = 1024 * 1024
_LARGE_WEIGHTS_PIXELS = 196
_LARGE_WEIGHTS_BLOCK = 768 * 1024
# Pixels below which a block takes in further images, so that few rows of its last tile are repeats.
_PIXELS = 448
# Floating-point operations below which a second thread costs more than it brings: entering a parallel region takes
# 2 to 3 us (omp), in which one core does about half a million.
_SERIAL = 2_000_000


class Correlation(NamedTuple):
    """The numbers of one dense correlation y[n, oh, ow, o] = sum x[n, oh SH + kh DH - TOP, ..., c] w[kh, kw, c, o]."""

    N: int
    H: int
    W: int
    C: int
    G: int
    CG: int  # input channels per group
    OG: int  # output channels per group
    KH: int
    KW: int
    SH: int
    SW: int
    DH: int
    DW: int
    TOP: int  # zero rows above x (negative: rows left out)
    LEFT: int
    OH: int
    OW: int
    Y0: int  # y's pixel (n, oh, ow) starts at Y0 + n YN + oh YH + ow YW
    YN: int
    YH: int
    YW: int
    NB: int = 1  # images per block
    RB: int = 1  # output rows per block
    HP: int = 0  # rows, columns and channels of an image in the scratch
    WP: int = 0
    CS: int = 0
    DIRECT: int = 0  # 1: no border, read x in place
    LANEWISE: int = 0  # 1: depthwise; C = CG = OG channels that do not mix, in one group


def tile(channels, dtype):
    """Return (MR, NV): rows and vectors of the accumulator tile for so many output channels.

    MR x NV accumulators, NV vectors of b and one broadcast must fit the registers: 32 with AVX-512 or Arm, else 16.
    Measured on one core (Zen 5, 16 lanes, 270 GFLOP/s peak): 14x2, 9x3 and 6x4 98 %; with one vector each
    multiply-add needs a load of its own: 20x1 86 %, 14x1 72 %. 12x2 and 7x4 spill.
    """
    vectors = -(-channels // simd.lanes(np.dtype(dtype)))
    if simd.registers() == 32:
        rows = {1: 20, 2: 14, 3: 9, 4: 6}
    else:
        rows = {1: 12, 2: 6, 3: 4}
    waste = {nv: -(-vectors // nv) * nv for nv in rows}
    nv = min(rows, key=lambda n: (waste[n], abs(n - 2)))
    return rows[nv], nv


def block(p, dtype):
    """Return `p` with its block sizes and scratch layout filled in."""
    itemsize = np.dtype(dtype).itemsize
    reach_h, reach_w = p.DH * (p.KH - 1) + 1, p.DW * (p.KW - 1) + 1
    rows_read, columns_read = (p.OH - 1) * p.SH + reach_h, (p.OW - 1) * p.SW + reach_w
    inside = p.TOP <= 0 and p.LEFT <= 0 and rows_read - p.TOP <= p.H and columns_read - p.LEFT <= p.W
    direct = inside and p.G == 1 and p.TOP == 0 and p.LEFT == 0
    columns = p.W if direct else max(columns_read, 0)
    limit = _BLOCK
    if p.KH * p.KW * depth(p) * p.OG * itemsize > _LARGE_WEIGHTS:
        images = -(-_LARGE_WEIGHTS_PIXELS // max(p.OH * p.OW, 1))
        limit = max(limit, min(images * rows_read * columns * p.CG * itemsize, _LARGE_WEIGHTS_BLOCK))
    rows_fit = limit // max(columns * p.CG * itemsize, 1)
    per_image = -(-p.OH // max((rows_fit - reach_h) // p.SH + 1, 1)) if p.OH else 1
    rb = -(-p.OH // per_image) if p.OH else 1
    nb = 1
    if rb == p.OH and p.OH * p.OW:
        most = max(1, min(rows_fit // max(rows_read, 1), -(-_PIXELS // (p.OH * p.OW)), p.N))
        nb = -(-p.N // -(-p.N // most)) if p.N else 1
    return p._replace(NB=nb, RB=rb, HP=p.H if direct else max((rb - 1) * p.SH + reach_h, 0), WP=columns,
                      CS=p.C if direct else p.CG, DIRECT=int(direct))


def depth(p):
    """Return how many input channels meet in one output channel."""
    return 1 if p.LANEWISE else p.CG


def operations(p):
    """Return the floating-point operations of a correlation: a multiplication and an addition per term."""
    return 2 * p.N * p.OH * p.OW * p.G * p.OG * depth(p) * p.KH * p.KW


def blocks(p):
    """Return the number of blocks of pixels."""
    return -(-p.N // p.NB) * -(-p.OH // p.RB)


def scratch_size(p):
    """Return the elements of scratch that one task needs."""
    return 0 if p.DIRECT else p.NB * p.HP * p.WP * p.CS


def offsets(p, mr):
    """Return two tables of offsets, in the scratch and in y, of a block's pixels.

    Each has two halves: a full block, and the last one of an image (or of the batch), which may be smaller. Each
    half is filled up with repeats of its last pixel, for the tile that hangs over its end.
    """
    size = -(-p.NB * p.RB * p.OW // mr) * mr
    a_rows, c_rows = np.zeros((2, size), np.int64), np.zeros((2, size), np.int64)
    halves = ((p.NB, p.RB), (p.N % p.NB or p.NB, p.OH % p.RB or p.RB))
    for half, (images, rows) in enumerate(halves):
        n, r, q = (i.ravel() for i in np.indices((images, rows, p.OW)))
        a = ((n * p.HP + r * p.SH) * p.WP + q * p.SW) * p.CS
        c = n * p.YN + r * p.YH + q * p.YW
        for table, values in ((a_rows, a), (c_rows, c)):
            if values.size:
                table[half, : values.size] = values
                table[half, values.size :] = values[-1]
    return a_rows.ravel(), c_rows.ravel()


def worth_threads(operations):
    """Return how many tasks to split so many floating-point operations into."""
    return 1 if operations < _SERIAL else jit.threads()


@jit.kernel
def _copy(target, at, source, start, count):
    """Copy a run. Slices let LLVM see that no index is negative: with offsets inside, the loop stays scalar."""
    into, out_of = target[at : at + count], source[start : start + count]
    for i in range(count):
        into[i] = out_of[i]


@jit.kernel
def _clear(target, at, count):
    """Set a run to zero."""
    into = target[at : at + count]
    for i in range(count):
        into[i] = 0


@jit.kernel
def pad(x, scratch, p, g, n0, images, r0, rows):
    """Copy the input rows of output rows r0 .. r0 + rows - 1 of some images into the scratch, with their border."""
    high = (rows - 1) * p.SH + p.DH * (p.KH - 1) + 1
    left = min(max(p.LEFT, 0), p.WP)
    first = max(-p.LEFT, 0)
    count = max(min(p.W - first, p.WP - left), 0)
    for n in range(images):
        for r in range(high):
            row = (n * p.HP + r) * p.WP * p.CS
            h = r0 * p.SH + r - p.TOP
            if h < 0 or h >= p.H:
                _clear(scratch, row, p.WP * p.CS)
                continue
            source = (((n0 + n) * p.H + h) * p.W + first) * p.C + g * p.CG
            _clear(scratch, row, left * p.CS)
            row += left * p.CS
            if p.CG == p.C:
                _copy(scratch, row, x, source, count * p.CS)
            else:
                for q in range(count):
                    _copy(scratch, row + q * p.CS, x, source + q * p.C, p.CG)
            _clear(scratch, row + count * p.CS, (p.WP - left - count) * p.CS)
