"""Winograd's convolution F(m x m, 3 x 3): m m outputs of a 3x3 kernel from (m + 2)(m + 2) products instead of 9 m m.

With d a tile of (m + 2) x (m + 2) inputs and g a kernel, each output tile is

    y = A^T [ (G g G^T) * (B^T d B) ] A,            * entry by entry

summed over input channels: for each of the (m + 2)^2 points one matrix product, tiles x C by C x O (the points of a
transformed array lie one vector more than its size apart, as powers of two would share cache sets). It is linear in
d and in g, so that its adjoints are the gradients: the input gradient is the same with the rotated kernel, and

    dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G.

Source: Lavin and Gray 2015, Fast Algorithms for Convolutional Neural Networks, section 4; the matrices are those for
the points 0, 1, -1 (2, -2) and infinity.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops import simd
from nbprop.ops.sandwich import sandwich

__all__ = ["Tiling", "blocked", "staged", "weight_gradient", "weights"]

# B^T, G and A^T for output tiles of 2 and 4.
_B = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1)),
}
_G = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
}
_A = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


def _transposed(matrix):
    return tuple(zip(*matrix))


class Tiling(NamedTuple):
    """The numbers of one Winograd correlation of x (N, H, W, C) to y (N, OH, OW, O), padded by TOP and LEFT."""

    N: int
    H: int
    W: int
    C: int
    OH: int
    OW: int
    O: int
    TOP: int
    LEFT: int
    M: int  # output tile
    TH: int  # tiles per column and row of an image
    TW: int
    CP: int  # channels, filled up to whole vectors
    OP: int
    TB: int  # tiles per block or stage: the room for each point in the transformed arrays


@functools.cache
def weights(m):
    """Make the transform of packed panels [panel][tap][c][P] to u[panel][point][c][P]: G g G^T."""
    transform = sandwich(_G[m])

    @jit.driver
    def weights(packed, u, panels, channels, width, lanes, tasks):
        slab, step = channels * width, channels * width + lanes
        for task in prange(tasks):
            for item in range(task * panels * channels // tasks, (task + 1) * panels * channels // tasks):
                panel, c = item // channels, item % channels
                for j in range(0, width, lanes):
                    transform(packed, panel * 9 * slab + c * width + j, 3 * slab, slab,
                              u, panel * (m + 2) ** 2 * step + c * width + j, (m + 2) * step, step, packed, 0, 0.0)

    return weights


@functools.cache
def _take(matrix, size, step):
    """Make the transform of one tile of an image, `size` wide and every `step` pixels, with zeros beyond its edges."""
    transform = sandwich(matrix)
    points = len(matrix)

    @jit.kernel
    def take(x, H, W, C, CP, n, h, q, edge, target, t, step, lanes):
        if h >= 0 and q >= 0 and h + size <= H and q + size <= W and CP == C:
            for c in range(0, C, lanes):
                transform(x, ((n * H + h) * W + q) * C + c, W * C, C,
                          target, t * CP + c, points * step, step, x, 0, 0.0)
            return
        edge[: size * size * CP] = 0
        for i in range(max(0, -h), min(size, H - h)):
            for j in range(max(0, -q), min(size, W - q)):
                start = ((n * H + h + i) * W + q + j) * C
                edge[(i * size + j) * CP : (i * size + j) * CP + C] = x[start : start + C]
        for c in range(0, CP, lanes):
            transform(edge, c, size * CP, CP, target, t * CP + c, points * step, step, x, 0, 0.0)

    return take


@functools.cache
def _give(m):
    """Make the transform of one tile of products to pixels of y, those beyond its edges left out."""
    transform = sandwich(_A[m], True)

    @jit.kernel
    def give(products, t, g, bias, floor, edge, y, n, oh, ow, lanes):
        step = g.TB * g.OP + lanes
        if oh + m <= g.OH and ow + m <= g.OW and g.O % lanes == 0:
            for o in range(0, g.O, lanes):
                transform(products, t * g.OP + o, (m + 2) * step, step, y, ((n * g.OH + oh) * g.OW + ow) * g.O + o,
                          g.OW * g.O, g.O, bias, o, floor)
            return
        for o in range(0, g.OP, lanes):
            transform(products, t * g.OP + o, (m + 2) * step, step, edge, o, m * g.OP, g.OP, bias, o, floor)
        for i in range(min(m, g.OH - oh)):
            for j in range(min(m, g.OW - ow)):
                start = ((n * g.OH + oh + i) * g.OW + ow + j) * g.O
                y[start : start + g.O] = edge[(i * m + j) * g.OP : (i * m + j) * g.OP + g.O]

    return give


@jit.kernel
def _place(g, tile):
    """Return a tile's image, row and column of tiles."""
    return tile // (g.TH * g.TW), tile // g.TW % g.TH, tile % g.TW


@functools.cache
def blocked(m, mr, nv):
    """Make the driver for small weights: each task takes block after block of tiles through all three steps in L2."""
    micro_kernel = simd.product(mr, nv, False)
    take, give, place = _take(_B[m], m + 2, m), _give(m), _place
    points = (m + 2) ** 2

    @jit.driver
    def correlate(x, u, bias, y, g, a_rows, c_rows, memory, edges, floor, lanes, tasks):
        P = nv * lanes
        panels = g.OP // P
        sv, sp, su = g.TB * g.CP + lanes, g.TB * g.OP + lanes, g.C * P + lanes
        count = g.N * g.TH * g.TW
        blocks = (count + g.TB - 1) // g.TB
        for task in prange(tasks):
            v, products, edge = memory[task, : points * sv], memory[task, points * sv :], edges[task]
            for block in range(task * blocks // tasks, (task + 1) * blocks // tasks):
                first, last = block * g.TB, min((block + 1) * g.TB, count)
                for tile in range(first, last):
                    n, th, tw = place(g, tile)
                    take(x, g.H, g.W, g.C, g.CP, n, th * m - g.TOP, tw * m - g.LEFT, edge, v, tile - first, sv, lanes)
                for point in range(points):
                    for panel in range(panels):
                        for row in range(0, last - first, mr):
                            micro_kernel(row, v, point * sv, a_rows, 1, 1, g.C, 0, 0, 1,
                                         u, (panel * points + point) * su, 0, 0, P, bias, g.OP, 0,
                                         products, point * sp + panel * P, c_rows, P,
                                         x.dtype.type(-np.inf))
                for tile in range(first, last):
                    n, th, tw = place(g, tile)
                    give(products, tile - first, g, bias, floor, edge, y, n, th * m, tw * m, lanes)

    return correlate


@functools.cache
def staged(m, mr, nv):
    """Make the three drivers for large weights: a stage of tiles is transformed, then multiplied point by point.

    The weights are read once per stage instead of once per block, and each task reads its own share of them.
    """
    micro_kernel = simd.product(mr, nv, False)
    take_tile, give_tile, place = _take(_B[m], m + 2, m), _give(m), _place
    points = (m + 2) ** 2

    @jit.driver
    def take(x, v, g, first, last, edges, lanes, tasks):
        for task in prange(tasks):
            count = last - first
            for tile in range(first + task * count // tasks, first + (task + 1) * count // tasks):
                n, th, tw = place(g, tile)
                take_tile(x, g.H, g.W, g.C, g.CP, n, th * m - g.TOP, tw * m - g.LEFT, edges[task], v, tile - first,
                          g.TB * g.CP + lanes, lanes)

    @jit.driver
    def multiply(v, u, products, zeros, g, a_rows, c_rows, count, lanes):
        P = nv * lanes
        panels = g.OP // P
        sv, sp, su = g.TB * g.CP + lanes, g.TB * g.OP + lanes, g.C * P + lanes
        for item in prange(points * panels):
            point, panel = item // panels, item % panels
            for row in range(0, count, mr):
                micro_kernel(row, v, point * sv, a_rows, 1, 1, g.C, 0, 0, 1, u, (panel * points + point) * su, 0, 0, P,
                             zeros, 0, 0, products, point * sp + panel * P, c_rows, P, v.dtype.type(-np.inf))

    @jit.driver
    def give(products, bias, y, g, first, last, edges, floor, lanes, tasks):
        for task in prange(tasks):
            count = last - first
            for tile in range(first + task * count // tasks, first + (task + 1) * count // tasks):
                n, th, tw = place(g, tile)
                give_tile(products, tile - first, g, bias, floor, edges[task], y, n, th * m, tw * m, lanes)

    return take, multiply, give


@functools.cache
def weight_gradient(m, mr, nv):
    """Make the three drivers of the weight gradient: a stage is transformed, then its products are added to du."""
    micro_kernel = simd.product(mr, nv, False)
    take_x, take_dy = _take(_B[m], m + 2, m), _take(_transposed(_A[m]), m, m)
    back, place = sandwich(_transposed(_G[m])), _place
    points = (m + 2) ** 2

    @jit.driver
    def take(x, dy, v, z, g, first, last, edges, lanes, tasks):
        for task in prange(tasks):
            count, edge = last - first, edges[task]
            sv, sz = g.TB * g.CP + lanes, g.TB * g.OP + lanes
            for tile in range(first + task * count // tasks, first + (task + 1) * count // tasks):
                n, th, tw = place(g, tile)
                take_x(x, g.H, g.W, g.C, g.CP, n, th * m - g.TOP, tw * m - g.LEFT, edge, v, tile - first, sv, lanes)
                take_dy(dy, g.OH, g.OW, g.O, g.OP, n, th * m, tw * m, edge, z, tile - first, sz, lanes)

    @jit.driver
    def multiply(v, z, du, part, g, a_rows, c_rows, count, begins, lanes):
        P = nv * lanes
        panels = g.OP // P
        sv, sz, sd = g.TB * g.CP + lanes, g.TB * g.OP + lanes, g.C * g.OP + lanes
        for item in prange(points * panels):
            point, panel = item // panels, item % panels
            at = point * sd + panel * P
            # A stage is summed apart and then added: one long sum would lose four times as many digits.
            into = du if begins else part
            for c in range(g.C):
                into[at + c * g.OP : at + c * g.OP + P] = 0
            for row in range(0, g.C, mr):
                micro_kernel(row, v, point * sv, a_rows, 1, 1, count, 0, 0, g.CP, z, point * sz + panel * P, 0, 0, g.OP,
                             into, at, 1, into, at, c_rows, P, v.dtype.type(-np.inf))
            if not begins:
                for c in range(g.C):
                    total, more = du[at + c * g.OP : at + c * g.OP + P], part[at + c * g.OP : at + c * g.OP + P]
                    for o in range(P):
                        total[o] += more[o]

    @jit.driver
    def finish(du, dw, g, edges, lanes, tasks):
        sd = g.C * g.OP + lanes
        for task in prange(tasks):
            edge = edges[task]
            for c in range(task * g.C // tasks, (task + 1) * g.C // tasks):
                for o in range(0, g.O, lanes):
                    if o + lanes <= g.O:
                        back(du, c * g.OP + o, (m + 2) * sd, sd,
                             dw, c * g.O + o, 3 * g.C * g.O, g.C * g.O, du, 0, 0.0)
                        continue
                    back(du, c * g.OP + o, (m + 2) * sd, sd, edge, 0, 3 * lanes, lanes, du, 0, 0.0)
                    for tap in range(9):
                        for j in range(g.O - o):
                            dw[(tap * g.C + c) * g.O + o + j] = edge[tap * lanes + j]

    return take, multiply, finish
