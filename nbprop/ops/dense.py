"""How a dense correlation is cut for the micro-kernel: blocks of pixels, regions of equal taps, panels of channels.

A pixel near the border has fewer taps inside the image. Each axis of the output falls into a few runs of positions
that share their first and last tap (three for a 3x3 kernel with padding 1: the first position, the middle, the last),
and a block of pixels into the rectangles of these runs, its regions. Within a region every tap (kh, kw) is one fixed
offset away from the pixel, so the input is read in place and nothing is padded:

    +--+--------+--+      taps of the corner: kh 1 .. 2, kw 1 .. 2
    |  |        |  |
    +--+--------+--+      taps of the left edge: kh 0 .. 2, kw 1 .. 2
    |  | middle |  |
    +--+--------+--+      all taps
    |  |        |  |
    +--+--------+--+

A table with the start of each pixel is all that stride and dilation come to. Weights are read as panels of
P = NV x L output channels, panel[kh][kw][c][P].
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import simd

__all__ = ["Correlation", "Region", "ahead_of", "bands", "block", "blocks", "depth", "fields", "operations",
           "regions", "splits", "tile", "together", "worth_threads"]

# Bytes of a core's first and second cache that blocks are cut for, a Zen 4's, on every machine: sums then have one
# order, too. With an Emerald Rapids' own 48 KiB and 2 MiB twelve passes and two steps took as long (geometric mean of
# the speeds 0.99).
L1, L2 = 32 * 1024, 1024 * 1024
# Bytes of input per block, a share of L2. A fifth was worse: several images more fill the tiles of their corners and
# edges better (stride 2 on 28 x 28: 20 %; Zen 5, 1 MiB of L2). So was twice as much, as panels then read it from L3
# (256 to 64 channels, 1x1: 3 %; Zen 3, 512 KiB).
_BLOCK = int(0.8 * L2)
# Weights that do not stay in L2 are read from further away once per block: its pixels must be worth it. 7x7 maps of
# 512 channels ran at 268 GFLOP/s with four images per block, at 439 with eight.
_LARGE_WEIGHTS = 1024 * 1024
_LARGE_WEIGHTS_PIXELS = 800
_LARGE_WEIGHTS_BLOCK = 1600 * 1024
# Work is cut into items, a block times a panel, of so many floating-point operations (0.15 ms of a core) and at most so
# many, but into so many for each thread at least, with so many rows at least: threads find equal shares (five images
# are 2 + 3 for two, and nine halves 4 + 5), and small work keeps blocks of several images. 16 threads (Xeon, AVX-512)
# ran at 33 % of the machine's peak where there were 8 items.
_ITEM, _ITEMS = 40_000_000, 64
_SHARES = 4
_ROWS = 4
# Floating-point operations below which a second thread costs more than it brings: entering a parallel region takes
# 2 to 3 us (omp), in which one core does about half a million.
_SERIAL = 2_000_000
_CHAINS = 8  # sums side by side, at least, that two multiply-adds per cycle of four cycles each want


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
    LANEWISE: int = 0  # 1: depthwise; C = CG = OG channels that do not mix, in one group
    NB: int = 1  # images per block
    RB: int = 1  # output rows per block


@jit.scalar
def fields(n):
    """Return the Correlation with the numbers `n`: handing a kernel one array takes 1 us less than 24 ints."""
    return Correlation(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11],
                       n[12], n[13], n[14], n[15], n[16], n[17], n[18], n[19], n[20], n[21], n[22], n[23])


def depth(p):
    """Return how many input channels meet in one output channel."""
    return 1 if p.LANEWISE else p.CG


def operations(p):
    """Return the floating-point operations of a correlation: a multiplication and an addition per term."""
    return 2 * p.N * p.OH * p.OW * p.G * p.OG * depth(p) * p.KH * p.KW


def worth_threads(count):
    """Return how many tasks to split so many floating-point operations into."""
    return jit.threads() if splits(count) else 1


def splits(count):
    """Say whether so many floating-point operations are worth more threads than one."""
    return count >= _SERIAL


@functools.cache
def tile(channels, dtype):
    """Return (MR, NV): rows and vectors of the accumulator tile for so many output channels.

    MR x NV accumulators, NV vectors of b and one broadcast must fit the registers: 32 with AVX-512 or Arm, else 16.
    Measured on one core (Zen 5, 16 lanes, 270 GFLOP/s peak): 14x2, 9x3 and 6x4 98 %; with one vector each
    multiply-add needs a load of its own: 24x1 86 %, 14x1 72 %. 12x2 and 7x4 spill. Where the first cache has to be
    refilled meanwhile, the fewer loads of 6x4 tell (Emerald Rapids, 165 GFLOP/s peak: 9x3 145, 6x4 140, 14x2 125 to
    130; whole convolutions of 64 channels and more, two threads, 1.1 to 1.4 times as fast as with 14x2).
    """
    vectors = -(-channels // simd.lanes(np.dtype(dtype)))
    rows, best = ({1: 24, 2: 14, 3: 9, 4: 6}, 4) if simd.registers() == 32 else ({1: 12, 2: 6, 3: 4}, 2)
    # Vectors that are computed, those beyond the last channel too; a tile of one vector runs at 86 / 98 of the others.
    cost = {nv: -(-vectors // nv) * nv * (98 / 86 if nv == 1 else 1) for nv in rows}
    nv = min(rows, key=lambda n: (cost[n], abs(n - best), -n))
    return rows[nv], nv


def together(run, mr, nv):
    """Return the rows of a tile of one vector whose rows are neighbours in runs of `run`, or 0 (see micro_kernel)."""
    return max((rows for rows in range(_CHAINS, mr + 1) if run % rows == 0), default=0) if nv == 1 else 0


def block(p, dtype, threads):
    """Return `p` with its block sizes filled in, for so many threads."""
    itemsize = np.dtype(dtype).itemsize
    row = max(p.W * p.C * itemsize, 1)
    panels = p.G * -(-p.OG // (tile(p.OG, dtype)[1] * simd.lanes(np.dtype(dtype))))
    items = max(min(operations(p) // _ITEM, _ITEMS), _SHARES * threads) if splits(operations(p)) else 1
    # Without a neighbourhood to share nothing speaks for large blocks, and the next one is fetched beside this: 256 to
    # 64 channels and back 1.05 to 1.1 times as fast in halves (Emerald Rapids; on Zen 3 100 to 800 KiB were alike).
    limit, images = _BLOCK if p.KH * p.KW > 1 else _BLOCK // 2, -(-p.N * panels // items)
    if p.KH * p.KW * depth(p) * p.OG * itemsize > _LARGE_WEIGHTS:
        worth = min(-(-_LARGE_WEIGHTS_PIXELS // max(p.OH * p.OW, 1)), -(-p.N * panels // threads))
        images = max(images, worth)
        limit = max(limit, min(images * p.H * row, _LARGE_WEIGHTS_BLOCK))
    rows_fit = max((limit // row - p.DH * (p.KH - 1) - 1) // p.SH + 1, 1)
    rows_spread = max(p.OH * p.N * panels // items, _ROWS)
    rb = -(-p.OH // -(-p.OH // min(rows_fit, rows_spread))) if p.OH else 1
    nb = max(1, min(limit // max(p.H * row, 1), images, p.N)) if rb == p.OH else 1
    return p._replace(NB=-(-p.N // -(-p.N // nb)) if p.N else 1, RB=rb)


def bands(p):
    """Return the number of blocks that an image is cut into."""
    return -(-p.OH // p.RB)


def blocks(p):
    """Return the number of blocks."""
    return -(-p.N // p.NB) * bands(p)


@jit.kernel
def ahead_of(numbers, block, asking):
    """Return where in x what a block reads begins, up to whole rows, and how much of it each of so many asks for."""
    p = fields(numbers)
    bands = (p.OH + p.RB - 1) // p.RB
    n0, band = block // bands * p.NB, block % bands
    first = max(band * p.RB * p.SH - p.TOP, 0)
    rows = max(min((p.RB - 1) * p.SH + (p.KH - 1) * p.DH + 1, p.H - first), 0)
    if bands == 1:
        first, rows = 0, min(p.NB, p.N - n0) * p.H
    return (n0 * p.H + first) * p.W * p.C, rows * p.W * p.C // max(asking, 1) + 1


class Region(NamedTuple):
    """A rectangle of a band's output pixels, and the taps that all of them have."""

    r: int  # first row, from the band's first
    rows: int
    q: int  # first column
    columns: int
    kh0: int
    kh1: int
    kw0: int
    kw1: int


def regions(p, band):
    """Return the regions of a band; those without taps come with kh0 = kh1 or kw0 = kw1."""
    first = band * p.RB
    vertical = _runs(p.H, p.KH, p.SH, p.DH, p.TOP, first, min(p.RB, p.OH - first))
    horizontal = _runs(p.W, p.KW, p.SW, p.DW, p.LEFT, 0, p.OW)
    return tuple(Region(r, rows, q, columns, kh0, kh1, kw0, kw1)
                 for r, rows, kh0, kh1 in vertical for q, columns, kw0, kw1 in horizontal)


def _runs(size, k, stride, dilation, before, first, count):
    """Return (start, length, first tap, last tap + 1) of the runs of positions with equal taps along one axis.

    Position i has the taps with 0 <= i stride + tap dilation - before < size.
    """
    at = np.arange(first, first + count) * stride - before
    begin = np.clip(-(at // dilation), 0, k)
    end = np.clip((size - 1 - at) // dilation + 1, begin, k)
    edges = [0, *(np.flatnonzero(np.diff(begin) | np.diff(end)) + 1), count]
    return [(int(a), int(b - a), int(begin[a]), int(end[a])) for a, b in itertools.pairwise(edges) if b > a]
