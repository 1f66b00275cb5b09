"""A convolution's passes by Winograd's algorithm: which it serves, how tiles are cut, and what memory they take."""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import dense, outer, simd
from nbprop.ops.conv import plan, winograd, winograd_weight
from nbprop.ops.flat import power_of_two
from nbprop.ops.micro_kernel import product

__all__ = ["TILE", "Pass", "count", "gradient_memory", "memory", "panel", "passes", "settle", "settle_gradient", "taps",
           "tiles"]

# Bytes of a block's transformed tiles and products, which stay in L2 beside the next block's input, fetched meanwhile
# (512 KiB: 15 % slower where the input comes from memory); and of a stage's tiles, which stay in L3.
_BLOCK = 192 * 1024
_ITEMS = 16  # blocks at least
_STAGE = 6 * 1024 * 1024
# Elements of a panel's transformed weights that are multiplied before the next, in L2. In whole vectors of channels, as
# the input gradient transposes them: 512 channels on 7 x 7 in slices of 64 take 0.87 of the time in slices of 42, and
# forward 0.95 (Emerald Rapids, 290 GFLOP/s on two cores); in slices of 32, 0.93 and 1.06.
_SLICE = int(0.6 * dense.L2) // 4
# Bytes of transformed weights up to which every block may read them all, from L2 or from a near L3.
_WEIGHTS = 4 * 1024 * 1024
# Tiles per task from which it transforms the weights for itself: one sixth of its products' time at 64 tiles. A few
# tasks always do.
_OWN = 64
_FEW = 4
# The weight gradient's, in bytes: a task's own sums at most; a block's tiles, besides as many again as such sums have,
# which are read and written once per block; all chunks' results.
_SUMS = 2560 * 1024
_CHUNK_BLOCK = 256 * 1024
_RESULTS = 4 * 1024 * 1024
# Of the tiles: up to 4 chunks of at least 48 each, up to 8 of 96, or up to 16 of 192.
_CHUNKS = (4, 48), (8, 96), (16, 192)
_RUN = 512  # tiles that one sum runs over before it is added to the others


TILE = {0: 0, 2: 5, 3: 4}  # m for r taps


def taps(g):
    """Return r where the algorithm serves a convolution with r x r taps of each stride phase, else 0.

    That is: 3x3, dilated or not, or 2x2, or as many for each row and column of the stride (4x4 with stride 2); one
    group, and padding up to that of a full convolution.
    """
    r = 2 if 2 * g.SH == g.KH else 3
    fits = (g.KH, g.KW, g.G) == (r * g.SH, r * g.SW, 1) and (g.SH == g.SW == 1 or g.DH == g.DW == 1)
    return r if g.N > 0 and fits and g.PH <= g.DH * (g.KH - 1) and g.PW <= g.DW * (g.KW - 1) else 0


def tiles(size, dilation, m):
    """Return how many tiles along one axis cover the largest lattice of the output."""
    return -(-size // (dilation * m)) if size else 0


_ROW = np.zeros(1, np.int64)  # the table of a single row


class Pass(NamedTuple):
    """One pass over one geometry: its tiles, tile of accumulators, tables of offsets, and blocks or stages."""

    g: winograd.Tiling
    mr: int
    nv: int
    together: bool  # whether a tile's rows are neighbours, as channels are
    a_rows: np.ndarray
    c_rows: np.ndarray
    phases: np.ndarray  # of x: see Tiling
    staged: bool
    chunks: int = 1  # the weight gradient's: of the tiles
    slab: int = 0  # output channels that a task sums at a time


@functools.lru_cache(maxsize=512)
def passes(kind, g, m, dtype, threads):
    """Return the Passes of kind "forward", "input" (one per stride phase of dx, from dy) or "weight" for a geometry."""
    size, out = ((g.H, g.W), g.C), ((g.OH, g.OW), g.O)
    if kind == "input":
        size, out = out, size
    (H, W), C = size
    (OH, OW), O = out
    L = simd.lanes(dtype)
    mr, nv = dense.tile(O, dtype)
    CP, OP = -(-C // L) * L, -(-O // (nv * L)) * nv * L
    found = []
    for group in _phases(kind, g):
        v, h = group[0]
        TH, TW = tiles(v.count, g.DH, m), tiles(h.count, g.DW, m)
        tiling = winograd.Tiling(g.N, H, W, C, OH, OW, O, g.DH, g.DW, v.x, h.x, v.y, h.y, v.first, h.first, m, TH, TW,
                                 g.N * g.DH * g.DW * TH * TW, CP, OP, 0)
        table = np.array([[v.before, h.before, *(a * g.KW + b for a in v.taps for b in h.taps)] for v, h in group])
        if kind == "weight":
            found.append(_weight_pass(tiling, dtype.itemsize, mr, nv, nv * L, table, threads))
        else:
            found.append(_pass(tiling, dtype.itemsize, mr, nv, nv * L, table))
    return tuple(found)


def count(kind, g, m):
    """Return the outputs of a pass, and the tiles that cover them."""
    groups = _phases(kind, g)
    lattices = g.N * g.DH * g.DW
    return (g.N * sum(group[0][0].count * group[0][1].count for group in groups),
            lattices * sum(tiles(v.count, g.DH, m) * tiles(h.count, g.DW, m) for (v, h), *_ in groups))


class _Phase(NamedTuple):
    """One stride phase along one axis: see Tiling."""

    taps: range
    before: int
    x: int  # steps
    y: int
    first: int
    count: int  # of outputs


def _phases(kind, g):
    """Return the passes' stride phases: all of x together, from row a - P on, or with kind "input" each of dx apart."""
    vertical, horizontal = (_axis_phases(kind, *axis) for axis in ((g.H, g.OH, g.KH, g.SH, g.PH, g.DH),
                                                                   (g.W, g.OW, g.KW, g.SW, g.PW, g.DW)))
    pairs = [*itertools.product(vertical, horizontal)]
    return [[pair] for pair in pairs] if kind == "input" else [pairs]


def _axis_phases(kind, size, out, k, stride, padding, dilation):
    if kind == "input":
        return [_Phase(range(first + step * (taps - 1), first - 1, -step), top, spread, dilation * stride, r, count)
                for r, taps, first, step, spread, top, count in plan.axis_phases(size, k, stride, padding, dilation)]
    return [_Phase(range(a, k, stride), padding - a, dilation * stride, dilation, 0, out) for a in range(stride)]


def _pass(g, itemsize, mr, nv, P, phases):
    """Return the Pass of a correlation, in blocks or in stages."""
    byte, S = _points(g) * itemsize, len(phases)
    staged = byte * S * g.C * g.OP > _WEIGHTS
    most, bytes_per_tile = (g.TILES, byte * S * g.CP) if staged else (-(-g.TILES // _ITEMS), byte * (S * g.CP + g.OP))
    TB = -(-max(min((_STAGE if staged else _BLOCK) // bytes_per_tile, most), 1) // mr) * mr
    rows = np.arange(TB)
    return Pass(g._replace(TB=TB), mr, nv, False, rows * S * g.CP, rows * (P if staged else g.OP), phases, staged)


def _points(g):
    return len(winograd.B[g.M]) ** 2


def _weight_pass(g, itemsize, mr, nv, P, phases, threads):
    """Return the weight gradient's Pass: its rows are phases' channels, repeated to fill the last tile.

    Slabs are narrower where chunks and slabs were fewer than threads, though each transforms x again, one sixth of its
    work for 32 channels; TB, and so the order of sums, does not depend on it.
    """
    byte, S = _points(g) * itemsize, len(phases)
    together = dense.together(g.C, mr, nv)
    mr = together or _fitting(mr, S * g.C)
    slab = max(1, min(_SUMS // (byte * S * g.C * P), g.OP // P)) * P
    spread = max(min(most, g.TILES // least) for most, least in _CHUNKS)
    chunks = power_of_two(min(spread, _RESULTS // (itemsize * _weights(g, phases))))
    rows = np.minimum(np.arange(-(-S * g.C // mr) * mr), S * g.C - 1)
    each = byte * (S * g.CP + slab)
    share = max(-(-g.TILES // chunks), 1)
    TB = max(1, min(_RUN, (_CHUNK_BLOCK + byte * S * g.C * slab) // each))
    TB = -(-share // -(-share // TB))  # alike: 32 and 32 tiles instead of 46 and 18
    if chunks * -(-g.OP // slab) < threads:
        slab = max(1, g.OP // P // -(-threads // chunks)) * P
    a_rows = rows // g.C * g.CP + rows % g.C
    return Pass(g._replace(TB=TB), mr, nv, together > 0, a_rows, rows * slab, phases, False, chunks, slab)


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
    g, points, L, P, tasks = p.g, _points(p.g), simd.lanes(dtype), panel(p, dtype), jit.threads()
    shared = points * (g.TB * len(p.phases) * g.CP + L) if p.staged else _transformed(p, P, L)
    own = _transformed(p, P, L) if not p.staged and _brings_its_own(g, tasks) else 0
    return [shared, tasks * (_room(p, L, P) + own), tasks * _edge(p), g.OP + P]


def _brings_its_own(g, tasks):
    """Say whether each task should transform the weights for itself."""
    return tasks <= _FEW or g.TILES >= _OWN * tasks


def _transformed(p, P, lanes):
    """Return the elements of all transformed weights."""
    return p.g.OP // P * _points(p.g) * (len(p.phases) * p.g.C * P + lanes)


def _room(p, lanes, P):
    g, points = p.g, _points(p.g)
    kernel, S = p.phases.shape[1] - 2, len(p.phases)
    if p.staged:
        width = _slice(g, P, lanes)
        return points * ((g.TB + width) * P + 2 * lanes) + kernel * width * P
    return max(points * (g.TB * (S * g.CP + g.OP) + 2 * lanes), kernel * g.C * P)


def _slice(g, P, lanes):
    """Return the input channels of a panel's weights that are transformed at a time: alike, and whole vectors."""
    vectors, most = -(-g.C // lanes), max(_SLICE // (_points(g) * P) // lanes, 1)
    return min(-(-vectors // -(-vectors // most)) * lanes, g.C)


def gradient_memory(p, dtype):
    """Return the elements that the weight gradient needs: chunks' results, blocks and sums, edges, ones and zeros."""
    tasks = jit.threads()
    room = tasks * _gradient_room(p, simd.lanes(dtype))
    return [p.chunks * _result(p), room, tasks * _edge(p), 2 * panel(p, dtype)]


def _result(p):
    """Return the elements of a chunk's dw and db, on cache lines of its own."""
    return -(-(_weights(p.g, p.phases) + p.g.O) // 16) * 16


def _weights(g, phases):
    """Return the elements of dw: all phases' taps are the kernel's."""
    return phases[:, 2:].size * g.C * g.O


def _gradient_room(p, lanes):
    """Return the elements of a task's block of both transformed arrays and of its sums."""
    S = len(p.phases)
    return _points(p.g) * (p.g.TB * (S * p.g.CP + p.slab) + S * p.g.C * p.slab + 3 * lanes)


def _edge(p):
    """Return the elements for an output tile, or nine vectors of a weight gradient, and a vector of zeros."""
    return p.g.M**2 * p.g.OP + 10 * 16


def _share_out(p, room, each, edges):
    """Return a row of `room`, of `each` elements, and one of `edges` for every task that both have memory for."""
    edge = _edge(p)
    tasks = min(jit.threads(), room.size // each, edges.size // edge)
    return room[: tasks * each].reshape(tasks, each), edges[: tasks * edge].reshape(tasks, edge)


def settle(plans, exchanged, dtype, work, floor):
    """Return the function of x, w, b and y (flat) that fills y with max(b + x correlated with w, floor).

    Each of the Passes fills its pixels. `w` has the memory order KH, KW, C, O; the input gradient takes its channels
    `exchanged`. `work` holds four flat arrays of the sizes of `memory`, and a queue. The function's fifth argument is
    that of `correlate.settle`.
    """
    g, bias = plans[0].g, work[3]
    biases, zeros = bias[: g.O], bias[g.O : g.OP + panel(plans[0], dtype)]
    runs = [(_staged if p.staged else _blocked)(p, exchanged, dtype, work, floor) for p in plans]

    def run(x, w, b, y, gate=None):
        _lay_bias(b, biases, zeros, 1)
        for each in runs:
            each(x, w, y, y if gate is None else gate, gate is not None)

    return run


@jit.driver
def _lay_bias(b, biases, zeros, task, tasks):
    simd.copy(b, 0, biases, 0, b.size)
    zeros[:] = 0


def _staged(p, exchanged, dtype, work, floor):
    """Return a Pass in stages as a function of x, w, y, gate and whether there is one."""
    g, (shared, room, edges, bias, waiting) = p.g, work
    lanes, P, micro = simd.lanes(dtype), panel(p, dtype), product(p.mr, p.nv, dtype)
    rooms, edges = _share_out(p, room, _room(p, lanes, P), edges)
    tasks, slice_ = len(rooms), _slice(g, P, lanes)
    groups = -(-tasks // (g.OP // P))
    take, finish = winograd.staged(g.M)

    def run(x, w, y, gate, gated):
        for first in range(0, g.TILES, g.TB):
            last = min(first + g.TB, g.TILES)
            take(x, shared, g, p.phases, first, last, edges, lanes, tasks)
            finish(shared, w, exchanged, p.phases, bias, y, gate, gated, g, slice_, p.a_rows, p.c_rows, first, last,
                   groups, rooms, edges, floor, P, lanes, p.mr, micro, waiting, tasks)

    return run


def _blocked(p, exchanged, dtype, work, floor):
    """Return a Pass in blocks as a function of x, w, y, gate and whether there is one."""
    g, (shared, room, edges, bias, waiting) = p.g, work
    lanes, P = simd.lanes(dtype), panel(p, dtype)
    each = _room(p, lanes, P)
    rooms, edges = _share_out(p, room, each, edges)
    tasks, larger = len(rooms), each + _transformed(p, P, lanes)
    own = _brings_its_own(g, tasks) and room.size >= tasks * larger
    if own:
        rooms = room[: tasks * larger].reshape(tasks, larger)
    # One vector out in all: 65 to 80 channels come in tiles of one, too.
    short = g.C == winograd.SHORT[1] and g.OP == lanes and len(p.phases) == 1 and simd.registers() == 32
    micro = 0 if short else product(p.mr, p.nv, dtype)
    transform, multiply = winograd.weights(g.M), winograd.blocked(g.M, short)

    def run(x, w, y, gate, gated):
        if not own:
            transform(w, exchanged, p.phases, g, P, rooms, shared, lanes, tasks)
        multiply(x, w, exchanged, p.phases, own, shared, bias, y, gate, gated, g, p.a_rows, p.c_rows, rooms, edges,
                 floor, P, lanes, micro, waiting, tasks)

    return run


@jit.driver
def _lay_constants(ones, zeros, task, tasks):
    ones[:] = 1
    zeros[:] = 0


def settle_gradient(plans, dtype, work):
    """Return the function of x, dy, dw and db (flat) that fills dw and db by the one Pass.

    `work` holds arrays of the sizes of `gradient_memory`, and a queue.
    """
    (p,), (results, room, edges, constants, waiting) = plans, work
    g, lanes, P = p.g, simd.lanes(dtype), panel(p, dtype)
    rooms, edges = _share_out(p, room, _gradient_room(p, lanes), edges)
    tasks, longest = len(rooms), _RUN // g.TB * g.TB
    ones, zeros = constants[:P], constants[P : 2 * P]
    micro, micro_row = product(p.mr, p.nv, dtype, p.together), product(1, p.nv, dtype)
    partials = results[: p.chunks * _result(p)].reshape(p.chunks, -1)
    accumulate = winograd_weight.accumulate(g.M)

    def run(x, dy, dw, db):
        _lay_constants(ones, zeros, 1)
        accumulate(x, dy, p.phases, partials, ones, zeros, _ROW, g, p.slab, p.a_rows, p.c_rows, rooms, edges, longest,
                   P, lanes, micro, micro_row, waiting, tasks)
        outer.add_chunks(partials, dw, db, tasks)

    return run
