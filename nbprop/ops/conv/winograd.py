"""Winograd's convolution F(m x m, r x r): m m outputs of an r x r kernel from n n products, n = m + r - 1, not r r m m.

With d a tile of n x n inputs and g a kernel, each output tile is

    y = A^T [ (G g G^T) * (B^T d B) ] A,            * entry by entry

summed over input channels: for each of the n^2 points one matrix product, tiles x C by C x O (the points of a
transformed array lie one vector more than its size apart, as powers of two would share cache sets). It is linear in
d and in g, so that its adjoints are the gradients: the input gradient is the same with the rotated kernel, and

    dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G.

A dilated kernel never meets neighbouring pixels: of each image the rows r, r + D, r + 2 D ... and columns alike, one
lattice, are an image of their own, whose convolution has dilation 1. A kernel of S r rows with stride S meets each
stride phase of x, every S-th row of it, with r of its rows: y is a convolution of stride 1 of the phases' S S C
channels, and in the input gradient each phase of dx is one of dy. So two taps serve 4x4 kernels with stride 2, as in
transposed convolutions.

Source: Lavin and Gray 2015, Fast Algorithms for Convolutional Neural Networks, section 4; the matrices are those for
the points 0, 1, -1, 2, -2 and infinity.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import simd
from nbprop.ops.flat import share
from nbprop.ops.micro_kernel import multiply, resident
from nbprop.ops.panels import transpose_panel
from nbprop.ops.queue import take as take_item
from nbprop.ops.queue import upcoming
from nbprop.ops.sandwich import clipped, sandwich
from nbprop.ops.through_relu import gate_run

__all__ = ["A", "B", "G", "Tiling", "all_phases", "blocked", "output_tile", "row_end", "row_reader", "rows_of",
           "staged", "transposed", "weights"]

# B^T, G and A^T for output tiles of m = 4 (r = 3) and 5 (r = 2): both have n = 6, and the same points.
B = {
    4: ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1)),
}
B[5] = B[4]
G = {
    4: ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
    5: ((1 / 4, 0), (-1 / 6, -1 / 6), (-1 / 6, 1 / 6), (1 / 24, 1 / 12), (1 / 24, -1 / 12), (0, 1)),
}
A = {
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    5: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 0), (0, 1, 1, 16, 16, 1)),
}

SHORT = 8, 16  # rows at a time, and channels, of a product whose weights stay in registers


def transposed(matrix):
    """Return the tuple of a matrix's columns."""
    return tuple(zip(*matrix))


class Tiling(NamedTuple):
    """The numbers of one Winograd correlation of x (N, H, W, C) to y (N, OH, OW, O).

    Its tiles are counted by image, lattice (DH x DW of them), row and column. Output row h of lattice r is row
    Y0 + r + h YH of y, and its first tap meets row r - TOP + h XH of x.

    Beside it goes a table with a row for each stride phase of x: TOP, LEFT, and the numbers of its r r taps in the
    weights. In the transformed arrays a phase is CP or C channels more.
    """

    N: int
    H: int
    W: int
    C: int
    OH: int
    OW: int
    O: int
    DH: int  # dilation
    DW: int
    XH: int  # dilation, or the stride of a forward pass
    XW: int
    YH: int  # dilation, or the stride of an input gradient, whose phase begins at pixel (Y0, Z0)
    YW: int
    Y0: int
    Z0: int
    M: int  # output tile
    TH: int  # tiles per column and row of a lattice
    TW: int
    TILES: int
    CP: int  # channels, filled up to whole vectors
    OP: int
    TB: int  # tiles per block or stage: the room for each point in the transformed arrays


@functools.cache
def _kernel_transform(m):
    """Make the transform of a panel of weights, input channels c0 .. c1 - 1, to u[point][c][P] = G g G^T.

    `w` has the memory order KH, KW, C, O; its taps in `order` are the kernel. With `exchanged` channels, as the input
    gradient wants them, g.C is the weights' O, and g.O their C.
    """
    transform, r, n = sandwich(G[m]), len(G[m][0]), len(B[m])

    @jit.kernel
    def weights(w, exchanged, order, g, o0, P, c0, c1, taps, u, start, step, lanes):
        count, width = c1 - c0, min(P, g.O - o0)
        for tap in range(order.size):
            if exchanged:
                transpose_panel(w, (order[tap] * g.O + o0) * g.C + c0, g.C, taps, tap * count * P, count, width, P,
                                lanes)
                continue
            if width < P:
                simd.clear(taps, tap * count * P, count * P)
            for c in range(count):
                simd.copy(w, (order[tap] * g.C + c0 + c) * g.O + o0, taps, (tap * count + c) * P, width)
        for c in range(count):
            for j in range(0, P, lanes):
                transform(taps, c * P + j, r * count * P, count * P, u, start + c * P + j, n * step, step)

    return weights


@functools.cache
def weights(m):
    """Make the driver that transforms all weights, panel by panel: for many tasks with few tiles each."""
    weights_of_panel = _kernel_transform(m)
    points = len(B[m]) ** 2

    @jit.driver
    def weights(w, exchanged, phases, g, P, memory, u, lanes, task, tasks):
        panels, S, step = g.OP // P, phases.shape[0], phases.shape[0] * g.C * P + lanes
        for item in range(*share(panels * S, task, tasks)):
            panel, phase = item // S, item % S
            weights_of_panel(w, exchanged, phases[phase, 2:], g, panel * P, P, 0, g.C, memory[task],
                             u, panel * points * step + phase * g.C * P, step, lanes)

    return weights


@functools.cache
def row_reader(matrix, size):
    """Make the transform of `count` tiles of a lattice beside each other, `size` wide, with zeros beyond its edges.

    The first `tile` comes from `input_tile` or `output_tile`. Of the channels it takes c0 .. c0 + width - 1, and fills
    them up with zeros to CP, from target[start] on, and `pitch` further for each tile. `zeros` is a vector of them.
    """
    transform, transform_clipped = sandwich(matrix), clipped(matrix)
    points = len(matrix)

    @jit.scalar
    def take_tile(x, tile, c0, width, CP, zeros, target, start, step, lanes):
        at, h, q, H, W, row, pixel = tile
        at += c0
        if h >= 0 and q >= 0 and h + size <= H and q + size <= W and CP == width:
            for c in range(0, width, lanes):
                transform(x, at + c, row, pixel, target, start + c, points * step, step)
        else:
            for c in range(0, CP, lanes):
                transform_clipped(x, at + c, row, pixel, target, start + c, points * step, step,
                                  zeros, -h, H - h, -q, W - q, min(lanes, width - c))

    @jit.scalar
    def take(x, g, tile, count, c0, width, CP, zeros, target, start, pitch, step, lanes):
        for i in range(count):
            take_tile(x, tile, c0, width, CP, zeros, target, start + i * pitch, step, lanes)
            tile = _beside(g, tile)

    return take


@functools.cache
def all_phases(m):
    """Make the transform of what tiles first .. last - 1 read of x, phase after phase."""
    take_row = row_reader(B[m], len(B[m]))

    @jit.kernel
    def take(x, g, phases, first, last, zeros, target, start, step, lanes):
        pitch = phases.shape[0] * g.CP
        for phase in range(phases.shape[0]):
            tile, at = first, start + phase * g.CP
            while tile < last:
                place, count = input_tile(g, tile, phases[phase, 0], phases[phase, 1]), row_end(g, tile, last) - tile
                take_row(x, g, place, count, 0, g.C, g.CP, zeros, target, at, pitch, step, lanes)
                tile, at = tile + count, at + count * pitch

    return take


@functools.cache
def _writer(m):
    """Make the transform of the products of tiles first .. last - 1 to pixels of y, those beyond edges left out.

    `products` has `step` numbers per point and a row of `width` (in whole vectors) per tile, from row t on: the
    channels from o0 on. Where they are `gated`, by the slope at `gate`, see through_relu.
    """
    transform, n = sandwich(A[m], True), len(B[m])

    @jit.scalar
    def give_tile(products, t, width, step, o0, g, bias, floor, edge, y, gate, gated, tile, lanes):
        inside = min(width, g.O - o0)
        at, oh, ow, OH, OW, row, pixel = tile
        at += o0
        rows, columns = min(m, OH - oh), min(m, OW - ow)
        if rows == m and columns == m and inside % lanes == 0:
            for o in range(0, inside, lanes):
                transform(products, t * width + o, n * step, step, y, at + o, row, pixel, bias, o0 + o, floor)
        else:
            for o in range(0, width, lanes):
                transform(products, t * width + o, n * step, step, edge, o, m * width, width, bias, o0 + o, floor)
            pixels, run = (columns, inside) if inside < pixel or inside < width else (1, columns * inside)
            for i in range(rows):
                for j in range(pixels):
                    simd.copy(edge, (i * m + j) * width, y, at + i * row + j * pixel, run)
        if gated:
            pixels, run = (columns, inside) if inside < pixel else (1, columns * inside)
            for i in range(rows):
                for j in range(pixels):
                    gate_run(y, at + i * row + j * pixel, gate, run)

    @jit.kernel(from_python=False)
    def give(products, t, width, step, o0, g, bias, floor, edge, y, gate, gated, first, last, lanes):
        tile = first
        while tile < last:
            place, end = output_tile(g, tile), row_end(g, tile, last)
            while tile < end:
                give_tile(products, t, width, step, o0, g, bias, floor, edge, y, gate, gated, place, lanes)
                place, tile, t = _beside(g, place), tile + 1, t + 1

    return give


@jit.scalar
def _place(g, tile):
    """Return a tile's image, the first row and column of its lattice, and its row and column of tiles there."""
    lattice = tile // (g.TH * g.TW)
    inside = tile - lattice * (g.TH * g.TW)
    row = inside // g.TW
    if g.DH == 1 and g.DW == 1:
        return lattice, 0, 0, row, inside - row * g.TW
    return lattice // (g.DH * g.DW), lattice // g.DW % g.DH, lattice % g.DW, row, inside - row * g.TW


@jit.scalar
def _over(length, step):
    """Return length // step: a division takes as long as ten additions, and most steps are 1."""
    return length if step == 1 else length // step


@jit.scalar
def output_tile(g, tile):
    """Return where in y a tile of m x m outputs lies.

    That is: where its first pixel starts in memory, that pixel's row and column in the lattice, the lattice's rows and
    columns, and how far apart in memory they are.
    """
    n, r, s, th, tw = _place(g, tile)
    r, s = g.Y0 + r, g.Z0 + s
    row, pixel, h, q = g.YH * g.OW * g.O, g.YW * g.O, th * g.M, tw * g.M
    at = ((n * g.OH + r) * g.OW + s) * g.O + h * row + q * pixel
    return at, h, q, _over(g.OH - r + g.YH - 1, g.YH), _over(g.OW - s + g.YW - 1, g.YW), row, pixel


@jit.scalar
def input_tile(g, tile, top, left):
    """Return the same of the inputs that it reads: rows r - TOP + XH i, with i from m th on, so of another lattice."""
    n, r, s, th, tw = _place(g, tile)
    row, pixel = g.XH * g.W * g.C, g.XW * g.C
    down, right = _over(r - top, g.XH), _over(s - left, g.XW)
    h, q, r, s = th * g.M + down, tw * g.M + right, r - top - down * g.XH, s - left - right * g.XW
    at = ((n * g.H + r) * g.W + s) * g.C + h * row + q * pixel
    return at, h, q, _over(g.H - r + g.XH - 1, g.XH), _over(g.W - s + g.XW - 1, g.XW), row, pixel


@jit.scalar
def _beside(g, tile):
    """Return where the next tile in a row of tiles lies. Dividing for each took 2 to 5 % (16 to 64 channels)."""
    at, h, q, H, W, row, pixel = tile
    return at + g.M * pixel, h, q + g.M, H, W, row, pixel


@jit.scalar
def row_end(g, tile, last):
    """Return the number after the last tile beside this one, `last` at most."""
    return min(tile - tile % g.TW + g.TW, last)


@jit.kernel
def rows_of(first, last, H, W, C, step, g):
    """Return where in an image of H x W x C the tiles first .. last - 1 begin and end, up to their whole rows.

    Neighbouring rows of a tile are `step` apart.
    """
    if first >= last:
        return 0, 0
    n, _, _, th, _ = _place(g, first)
    begin = (n * H + min(th * g.M * step, H)) * W * C
    n, _, _, th, _ = _place(g, last - 1)
    return begin, (n * H + min((th + 1) * g.M * step, H)) * W * C


_resident = resident(*SHORT)


@jit.kernel(from_python=False)
def _sums(micro, v, v0, a_rows, u, u0, zeros, g, S, products, p0, c_rows, count, P):
    """Multiply a block's tiles by a panel of weights at one point."""
    multiply(micro, 0, count, v, v0, a_rows, 1, S, g.C, 0, g.CP, 1, u, u0, 0, g.C * P, P, zeros, g.OP, 0,
             products, p0, c_rows, P, v.dtype.type(-np.inf), v, 0, 0)


@jit.kernel(from_python=False)
def _short_sums(micro, v, v0, a_rows, u, u0, zeros, g, S, products, p0, c_rows, count, P):
    """Do the same for 16 channels in and one vector out, whose weights fit into the registers."""
    _resident(v, v0, u, u0, products, p0, count)


@functools.cache
def blocked(m, short=False):
    """Make the driver for small weights: each task takes block after block of tiles through all three steps in L2.

    With `own` it transforms the weights for itself too, which is a few percent more work for each, and nothing of them
    then has to come from another core.
    """
    sums, weights_of_panel = _short_sums if short else _sums, _kernel_transform(m)
    take, give = all_phases(m), _writer(m)
    points = len(B[m]) ** 2

    @jit.driver
    def correlate(x, w, exchanged, phases, own, u, bias, y, gate, gated, g, a_rows, c_rows, memory, edges, floor, P,
                  lanes, micro, waiting, task, tasks):
        room, edge = memory[task], edges[task]
        panels, S = g.OP // P, phases.shape[0]
        sv, sp, su = g.TB * S * g.CP + lanes, g.TB * g.OP + lanes, S * g.C * P + lanes
        blocks = (g.TILES + g.TB - 1) // g.TB
        v, products = room[: points * sv], room[points * sv : points * (sv + sp)]
        zeros = edge[edge.size - lanes :]
        simd.clear(zeros, 0, lanes)
        block = take_item(waiting, blocks, task, tasks)
        if own and block < blocks:
            u = room[room.size - panels * points * su :]
            for item in range(panels * S):
                panel, phase = item // S, item % S
                weights_of_panel(w, exchanged, phases[phase, 2:], g, panel * P, P, 0, g.C, room,
                                 u, panel * points * su + phase * g.C * P, su, lanes)
        while block < blocks:
            following = upcoming(waiting, blocks, task, tasks)
            first, last = block * g.TB, min((block + 1) * g.TB, g.TILES)
            take(x, g, phases, first, last, zeros, v, 0, sv, lanes)
            # The next block's x is fetched while the products keep the core busy (y too: 15 % slower).
            begin, end = rows_of(following * g.TB, min((following + 1) * g.TB, g.TILES), g.H, g.W, g.C, g.XH, g)
            for point in range(points):
                simd.prefetch(x, begin + (end - begin) * point // points, begin + (end - begin) * (point + 1) // points)
                for panel in range(panels):
                    sums(micro, v, point * sv, a_rows, u, (panel * points + point) * su, bias, g, S, products,
                         point * sp + panel * P, c_rows, last - first, P)
            give(products, 0, g.OP, sp, 0, g, bias, floor, edge, y, gate, gated, first, last, lanes)
            block = take_item(waiting, blocks, task, tasks)

    return correlate


@functools.cache
def staged(m):
    """Make the two drivers for large weights: a stage of tiles is transformed, then finished panel by panel.

    A task transforms its panel of weights CB input channels at a time and multiplies them while they lie in L2: the
    transformed weights, n^2 numbers for r^2, never reach memory. Where tasks outnumber panels, `groups` of tiles
    share one.
    """
    weights_of_panel, take_tiles, give = _kernel_transform(m), all_phases(m), _writer(m)
    points = len(B[m]) ** 2

    @jit.driver
    def take(x, v, g, phases, first, last, edges, lanes, task, tasks):
        pitch, edge = phases.shape[0] * g.CP, edges[task]
        zeros = edge[edge.size - lanes :]
        simd.clear(zeros, 0, lanes)
        begin, end = share(last - first, task, tasks)
        take_tiles(x, g, phases, first + begin, first + end, zeros, v, begin * pitch, g.TB * pitch + lanes, lanes)

    @jit.kernel
    def finish_panel(v, w, exchanged, phases, o0, bias, y, gate, gated, g, CB, a_rows, c_rows, start, first, last,
                     memory, edge, floor, P, lanes, micro):
        S = phases.shape[0]
        sv, sp, su = g.TB * S * g.CP + lanes, g.TB * P + lanes, CB * P + lanes
        products, rest = memory[: points * sp], memory[points * sp :]
        u, taps = rest[: points * su], rest[points * su :]
        slices = (g.C + CB - 1) // CB
        for item in range(S * slices):
            phase, c0 = item // slices, item % slices * CB
            width = min(CB, g.C - c0)
            weights_of_panel(w, exchanged, phases[phase, 2:], g, o0, P, c0, c0 + width, taps, u, 0, su, lanes)
            for point in range(points):
                init, i0, si = (bias, g.OP, 0) if item == 0 else (products, point * sp, 1)
                multiply(micro, first - start, last - start, v, point * sv + phase * g.CP + c0, a_rows, 1, 1, width,
                         0, 0, 1, u, point * su, 0, 0, P, init, i0, si, products, point * sp, c_rows, P,
                         v.dtype.type(-np.inf), v, 0, 0)
        give(products, first - start, P, sp, o0, g, bias, floor, edge, y, gate, gated, first, last, lanes)

    @jit.driver
    def finish(v, w, exchanged, phases, bias, y, gate, gated, g, CB, a_rows, c_rows, first, last, groups, memory,
               edges, floor, P, lanes, mr, micro, waiting, task, tasks):
        count = (last - first + mr - 1) // mr
        items = g.OP // P * groups
        item = take_item(waiting, items, task, tasks)
        while item < items:
            panel, group = item // groups, item % groups
            start, stop = share(count, group, groups)
            finish_panel(v, w, exchanged, phases, panel * P, bias, y, gate, gated, g, CB, a_rows, c_rows, first,
                         first + start * mr, min(first + stop * mr, last), memory[task], edges[task], floor, P, lanes,
                         micro)
            item = take_item(waiting, items, task, tasks)

    return take, finish
