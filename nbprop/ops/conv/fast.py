"""A 3x3 convolution's passes by Winograd's algorithm: how its tiles are cut, and what memory they take."""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit, layout
from nbprop.ops import dense, simd
from nbprop.ops.conv import winograd

__all__ = ["Pass", "allocate", "correlate", "gradient_memory", "memory", "panel", "plan", "serves", "weight_gradient"]

# Bytes of a block's transformed tiles and products, which stay in L2, and of a stage's, which stay in L3.
_BLOCK = 512 * 1024
_STAGE = 4 * 1024 * 1024
# Bytes of transformed weights up to which every block may read them all: they then stay in L2 beside a block.
_WEIGHTS = 4 * 1024 * 1024


def serves(g):
    """Say whether the algorithm fits at all: 3x3, stride and dilation 1, one group, padding up to 2."""
    return (g.KH, g.KW, g.SH, g.SW, g.DH, g.DW, g.G) == (3, 3, 1, 1, 1, 1, 1) and g.PH <= 2 and g.PW <= 2


class Pass(NamedTuple):
    """One pass over one geometry: its tiles, tile of accumulators, tables of offsets, and blocks or stages."""

    g: winograd.Tiling
    mr: int
    nv: int
    a_rows: np.ndarray
    c_rows: np.ndarray
    staged: bool


@functools.lru_cache(maxsize=512)
def plan(kind, g, m, dtype):
    """Return the Pass of kind "forward", "input" (dx from dy) or "weight" for a convolution's geometry."""
    size, out = ((g.H, g.W), g.C), ((g.OH, g.OW), g.O)
    padding = g.PH, g.PW
    if kind == "input":
        size, out, padding = out, size, (2 - g.PH, 2 - g.PW)
    (H, W), C = size
    (OH, OW), O = out
    L = simd.lanes(dtype)
    mr, nv = dense.tile(O, dtype)
    TH, TW, points = -(-OH // m), -(-OW // m), (m + 2) ** 2
    CP, OP = -(-C // L) * L, -(-O // (nv * L)) * nv * L
    staged = kind == "weight" or points * C * OP * dtype.itemsize > _WEIGHTS
    fit = (_STAGE if staged else _BLOCK) // (points * (CP + OP) * dtype.itemsize)
    most = g.N * TH * TW if staged else -(-g.N * TH * TW // dense.ITEMS)
    TB = -(-max(min(fit, most), 1) // mr) * mr
    tiling = winograd.Tiling(g.N, H, W, C, OH, OW, O, *padding, m, TH, TW, CP, OP, TB)
    if kind == "weight":  # rows are channels, repeated to fill the last tile
        rows = np.minimum(np.arange(-(-C // mr) * mr), C - 1)
        return Pass(tiling, mr, nv, rows, rows * OP, staged)
    return Pass(tiling, mr, nv, np.arange(TB) * CP, np.arange(TB) * OP, staged)


def panel(p, dtype):
    """Return P, the number of output channels in a panel of weights."""
    return p.nv * simd.lanes(dtype)


def memory(p, dtype):
    """Return the elements that a correlation needs: transformed weights, blocks, edges, and the bias with P zeros."""
    points, L = (p.g.M + 2) ** 2, simd.lanes(dtype)
    copies = 1 if p.staged else jit.threads()
    weights = p.g.OP // panel(p, dtype) * points * (p.g.C * panel(p, dtype) + L)
    return [weights, copies * _room(p, L), jit.threads() * _edge(p), p.g.OP + panel(p, dtype)]


def gradient_memory(p, dtype):
    """Return the elements that the weight gradient needs: transformed weights twice, a stage, edges, and no bias."""
    points, L = (p.g.M + 2) ** 2, simd.lanes(dtype)
    return [2 * points * (p.g.C * p.g.OP + L), _room(p, L), jit.threads() * _edge(p), 0]


def _room(p, lanes):
    return (p.g.M + 2) ** 2 * (p.g.TB * (p.g.CP + p.g.OP) + 2 * lanes)


def _edge(p):
    return (p.g.M + 2) ** 2 * max(p.g.CP, p.g.OP)


def correlate(x, packed, b, y, p, work, floor):
    """Fill y (flat) with max(b + x correlated with the kernel of `packed` panels, floor).

    `work` holds four flat arrays of the sizes of `memory`.
    """
    g, (u, room, edges, bias) = p.g, work
    lanes, width = simd.lanes(x.dtype), panel(p, x.dtype)
    panels = g.OP // width
    edges = edges[: edges.size // _edge(p) * _edge(p)].reshape(-1, _edge(p))
    tasks = min(edges.shape[0], jit.threads())
    winograd.weights(g.M)(packed, u, panels, g.C, width, lanes, tasks)
    bias[: g.O] = b
    bias[g.O : g.OP + width] = 0
    points = (g.M + 2) ** 2
    if not p.staged:
        each = _room(p, lanes)
        tasks = min(tasks, room.size // each)
        blocks = room[: tasks * each].reshape(tasks, each)
        winograd.blocked(g.M, p.mr, p.nv)(x, u, bias, y, g, p.a_rows, p.c_rows, blocks, edges, floor, lanes, tasks)
        return
    take, multiply, give = winograd.staged(g.M, p.mr, p.nv)
    split = points * (g.TB * g.CP + lanes)
    v, products = room[:split], room[split:]
    for first in range(0, g.N * g.TH * g.TW, g.TB):
        last = min(first + g.TB, g.N * g.TH * g.TW)
        take(x, v, g, first, last, edges, lanes, tasks)
        multiply(v, u, products, bias[g.OP :], g, p.a_rows, p.c_rows, last - first, lanes)
        give(products, bias, y, g, first, last, edges, floor, lanes, tasks)


def weight_gradient(x, dy, dw, p, work):
    """Fill dw (flat); `work` holds flat arrays of the sizes of `gradient_memory`."""
    g, (sums, room, edges, _) = p.g, work
    lanes, points = simd.lanes(x.dtype), (p.g.M + 2) ** 2
    split = points * (g.C * g.OP + lanes)
    du, part = sums[:split], sums[split : 2 * split]
    edges = edges[: edges.size // _edge(p) * _edge(p)].reshape(-1, _edge(p))
    tasks = min(edges.shape[0], jit.threads())
    split = points * (g.TB * g.CP + lanes)
    v, z = room[:split], room[split:]
    take, multiply, finish = winograd.weight_gradient(g.M, p.mr, p.nv)
    for first in range(0, g.N * g.TH * g.TW, g.TB):
        last = min(first + g.TB, g.N * g.TH * g.TW)
        take(x, dy, v, z, g, first, last, edges, lanes, tasks)
        multiply(v, z, du, part, g, p.a_rows, p.c_rows, last - first, first == 0, lanes)
    finish(du, dw, g, edges, lanes, tasks)


def allocate(sizes, dtype):
    """Allocate the four flat arrays of `memory`, large enough for several passes."""
    return tuple(layout.empty((max(column),), dtype) for column in zip(*sizes))
