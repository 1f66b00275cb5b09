"""A 3x3 convolution's passes by Winograd's algorithm: how its tiles are cut, and what memory they take."""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import dense, outer, simd
from nbprop.ops.conv import winograd, winograd_weight

__all__ = ["Pass", "correlate", "gradient_memory", "memory", "panel", "plan", "serves", "tiles", "weight_gradient"]

# Bytes of a block's transformed tiles and products, which stay in L2 beside the next block's input, fetched meanwhile
# (512 KiB: 15 % slower where the input comes from memory); and of a stage's tiles, which stay in L3.
_BLOCK = 192 * 1024
_ITEMS = 16  # blocks at least, so that many threads find equal shares
_STAGE = 6 * 1024 * 1024
# Elements of a panel's transformed weights that are multiplied before the next, in L2.
_SLICE = 96 * 1024
# Bytes of transformed weights up to which every block may read them all, from L2 or from a near L3.
_WEIGHTS = 4 * 1024 * 1024
# Tiles per task from which it transforms the weights for itself: one sixth of its products' time at 64 tiles. A few
# tasks always do.
_OWN = 64
_FEW = 4
# The weight gradient's, in bytes: a task's own sums; a block's tiles, besides as many again as the sums have, which are
# read and written once per block; all chunks' results.
_SUMS = 2560 * 1024
_CHUNK_BLOCK = 256 * 1024
_RESULTS = 4 * 1024 * 1024
_CHUNKS = (4, 48), (16, 192)  # of the tiles: up to 4 of at least 48 each, or up to 16 of at least 192
_RUN = 512  # tiles that one sum runs over before it is added to the others


def serves(g):
    """Say whether the algorithm fits at all: 3x3, stride 1, one group, padding up to that of a full convolution."""
    fits = (g.KH, g.KW, g.SH, g.SW, g.G) == (3, 3, 1, 1, 1) and g.PH <= 2 * g.DH and g.PW <= 2 * g.DW
    return g.N > 0 and fits


def tiles(size, dilation, m):
    """Return how many tiles along one axis cover the largest lattice of the output."""
    return -(-size // (dilation * m)) if size else 0


_ROW = np.zeros(1, np.int64)  # the table of a single row


class Pass(NamedTuple):
    """One pass over one geometry: its tiles, tile of accumulators, tables of offsets, and blocks or stages."""

    g: winograd.Tiling
    mr: int
    nv: int
    a_rows: np.ndarray
    c_rows: np.ndarray
    staged: bool
    chunks: int = 1  # the weight gradient's: of the tiles
    slab: int = 0  # output channels that a task sums at a time


@functools.lru_cache(maxsize=512)
def plan(kind, g, m, dtype):
    """Return the Pass of kind "forward", "input" (dx from dy) or "weight" for a convolution's geometry."""
    size, out = ((g.H, g.W), g.C), ((g.OH, g.OW), g.O)
    padding = g.PH, g.PW
    if kind == "input":
        size, out, padding = out, size, (2 * g.DH - g.PH, 2 * g.DW - g.PW)
    (H, W), C = size
    (OH, OW), O = out
    L = simd.lanes(dtype)
    mr, nv = dense.tile(O, dtype)
    points = (m + 2) ** 2
    TH, TW = tiles(OH, g.DH, m), tiles(OW, g.DW, m)
    count = g.N * g.DH * g.DW * TH * TW
    CP, OP = -(-C // L) * L, -(-O // (nv * L)) * nv * L
    tiling = winograd.Tiling(g.N, H, W, C, OH, OW, O, *padding, g.DH, g.DW, m, TH, TW, count, CP, OP, 0)
    byte = points * dtype.itemsize
    if kind == "weight":
        return _weight_plan(tiling, dtype.itemsize, _fitting(mr, C), nv, nv * L)
    staged = byte * C * OP > _WEIGHTS
    most, bytes_per_tile = (count, byte * CP) if staged else (-(-count // _ITEMS), byte * (CP + OP))
    TB = -(-max(min((_STAGE if staged else _BLOCK) // bytes_per_tile, most), 1) // mr) * mr
    return Pass(tiling._replace(TB=TB), mr, nv, np.arange(TB) * CP, np.arange(TB) * (nv * L if staged else OP), staged)


def _weight_plan(g, itemsize, mr, nv, P):
    """Return the weight gradient's Pass: its rows are channels, repeated to fill the last tile."""
    byte = (g.M + 2) ** 2 * itemsize
    slab = max(1, min(_SUMS // (byte * g.C * P), g.OP // P)) * P
    spread = max(min(most, g.TILES // least) for most, least in _CHUNKS)
    chunks = max(1, min(spread, _RESULTS // (itemsize * 9 * g.C * g.O)))
    chunks = 1 << (chunks.bit_length() - 1)  # a power of two: equal shares for 2, 4, 8 ... threads
    rows = np.minimum(np.arange(-(-g.C // mr) * mr), g.C - 1)
    TB = max(1, min(_RUN, (_CHUNK_BLOCK + byte * g.C * slab) // (byte * (g.CP + slab)), -(-g.TILES // chunks)))
    return Pass(g._replace(TB=TB), mr, nv, rows, rows * slab, False, chunks, slab)


def _fitting(mr, rows):
    """Return a tile of 8 rows instead of `mr` where fewer are then repeated: 32 channels are four of 8, three of 14."""
    low = min(8, mr)
    return low if -(-rows // low) * low < -(-rows // mr) * mr else mr


def panel(p, dtype):
    """Return P, the number of output channels in a panel of weights."""
    return p.nv * simd.lanes(dtype)


def memory(p, dtype):
    """Return the elements that a correlation needs: what tasks share, a room for each, edges, the bias with P zeros.

    In blocks tasks share the transformed weights, where they are too small to transform them each; in stages, the
    transformed tiles.
    """
    g, points, L, P, tasks = p.g, (p.g.M + 2) ** 2, simd.lanes(dtype), panel(p, dtype), jit.threads()
    shared = points * (g.TB * g.CP + L) if p.staged else _transformed(g, P, L)
    own = _transformed(g, P, L) if not p.staged and _brings_its_own(g, tasks) else 0
    return [shared, tasks * (_room(p, L, P) + own), tasks * _edge(p), g.OP + P]


def _brings_its_own(g, tasks):
    """Say whether each task should transform the weights for itself."""
    return tasks <= _FEW or g.TILES >= _OWN * tasks


def _transformed(g, P, lanes):
    """Return the elements of all transformed weights."""
    return g.OP // P * (g.M + 2) ** 2 * (g.C * P + lanes)


def _room(p, lanes, P):
    g, points = p.g, (p.g.M + 2) ** 2
    if p.staged:
        return points * ((g.TB + _slice(g, P)) * P + 2 * lanes) + 9 * _slice(g, P) * P
    return max(points * (g.TB * (g.CP + g.OP) + 2 * lanes), 9 * g.C * P)


def _slice(g, P):
    """Return the input channels of a panel's weights that are transformed at a time."""
    return max(1, min(g.C, _SLICE // ((g.M + 2) ** 2 * P)))


def gradient_memory(p, dtype):
    """Return the elements that the weight gradient needs: chunks' results, blocks and sums, edges, ones and zeros."""
    tasks = jit.threads()
    return [p.chunks * _result(p), tasks * _gradient_room(p, simd.lanes(dtype)), tasks * _edge(p), 2 * panel(p, dtype)]


def _result(p):
    """Return the elements of a chunk's dw and db, on cache lines of its own."""
    return -(-(9 * p.g.C * p.g.O + p.g.O) // 16) * 16


def _gradient_room(p, lanes):
    """Return the elements of a task's block of both transformed arrays and of its sums."""
    return (p.g.M + 2) ** 2 * (p.g.TB * (p.g.CP + p.slab) + p.g.C * p.slab + 3 * lanes)


def _edge(p):
    """Return the elements for an output tile, or nine vectors of a weight gradient, and a vector of zeros."""
    return p.g.M**2 * p.g.OP + 10 * 16


def _share_out(p, room, each, edges):
    """Return a row of `room`, of `each` elements, and one of `edges` for every task that both have memory for."""
    edge = _edge(p)
    tasks = min(jit.threads(), room.size // each, edges.size // edge)
    return room[: tasks * each].reshape(tasks, each), edges[: tasks * edge].reshape(tasks, edge)


def correlate(x, w, rotated, b, y, p, work, floor):
    """Fill y (flat) with max(b + x correlated with w, floor); `w` (flat) has the memory order KH, KW, C, O.

    `rotated` takes the kernel rotated, its channels exchanged. `work` holds four flat arrays of the sizes of `memory`.
    """
    g, (shared, room, edges, bias) = p.g, work
    lanes, P = simd.lanes(x.dtype), panel(p, x.dtype)
    rooms, edges = _share_out(p, room, _room(p, lanes, P), edges)
    tasks = len(rooms)
    bias[: g.O] = b
    bias[g.O : g.OP + P] = 0
    if p.staged:
        take, finish = winograd.staged(g.M, p.mr, p.nv)
        for first in range(0, g.TILES, g.TB):
            last = min(first + g.TB, g.TILES)
            take(x, shared, g, first, last, edges, lanes, tasks)
            finish(shared, w, rotated, bias, y, g, _slice(g, P), p.a_rows, p.c_rows, first, last,
                   -(-tasks // (g.OP // P)), rooms, edges, floor, lanes, tasks)
        return
    larger = rooms.shape[1] + _transformed(g, P, lanes)
    own = _brings_its_own(g, tasks) and room.size >= tasks * larger
    if own:
        rooms = room[: tasks * larger].reshape(tasks, larger)
    else:
        winograd.weights(g.M)(w, rotated, g, P, rooms, shared, lanes, tasks)
    short = g.C == winograd.SHORT[1] and p.nv == 1 and simd.registers() == 32
    winograd.blocked(g.M, p.mr, p.nv, short)(x, w, rotated, own, shared, bias, y, g, p.a_rows, p.c_rows, rooms, edges,
                                             floor, lanes, tasks)


def weight_gradient(x, dy, dw, db, p, work):
    """Fill dw and db (flat); `work` holds flat arrays of the sizes of `gradient_memory`."""
    g, (results, room, edges, constants) = p.g, work
    lanes, P = simd.lanes(x.dtype), panel(p, x.dtype)
    rooms, edges = _share_out(p, room, _gradient_room(p, lanes), edges)
    tasks = len(rooms)
    ones, zeros = constants[:P], constants[P : 2 * P]
    ones[:], zeros[:] = 1, 0
    partials = results[: p.chunks * _result(p)].reshape(p.chunks, -1)
    winograd_weight.accumulate(g.M, p.mr, p.nv)(
        x, dy, partials, ones, zeros, _ROW, g, p.slab, p.a_rows, p.c_rows, rooms, edges, _RUN // g.TB * g.TB, lanes,
        tasks)
    outer.add_chunks(partials, dw, db, tasks)
