"""Winograd's weight gradient: dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G, the adjoint of winograd.py.

The sum is one matrix product for each of the n^2 points, C x tiles by tiles x O. A task takes chunk after chunk
of the tiles, and of the output channels slab after slab, through all steps in its own cache. Nothing passes from core
to core but each chunk's dw and db, which are added in order at the end.

That is what cores without a common L3 want: with a stage of tiles transformed by all and then multiplied point by
point, 32 to 64 channels on 64 maps of 16 x 16 took 0.74 ms on two cores of one chiplet and 1.33 ms on cores of two
(AMD EPYC, Zen 5); so they take 0.60 and 0.65 ms.
"""

import functools

import numpy as np

from nbprop import jit
from nbprop.ops import simd
from nbprop.ops.conv.winograd import A, B, G, all_phases, output_tile, row_end, row_reader, rows_of, transposed
from nbprop.ops.flat import share
from nbprop.ops.micro_kernel import multiply
from nbprop.ops.queue import take
from nbprop.ops.sandwich import sandwich

__all__ = ["accumulate"]


@functools.cache
def _steps(m):
    """Make the kernels of the three steps, for the SO output channels from o0 on, a slab.

    transform   tiles into v = B^T d B and z = A dy A^T
    add         add their products, point by point, to the sums (or with `begins` set them)
    give        dw = G^T sums G, or with `more` add it to dw; each phase has its own channels in v, and taps in dw
    """
    take_x, take_dy = all_phases(m), row_reader(transposed(A[m]), m)
    back, r, n = sandwich(transposed(G[m])), len(G[m][0]), len(B[m])
    points = n**2

    @jit.kernel
    def transform(x, dy, phases, v, z, g, SO, o0, first, last, zeros, lanes):
        pitch = phases.shape[0] * g.CP
        take_x(x, g, phases, first, last, zeros, v, 0, g.TB * pitch + lanes, lanes)
        tile, at = first, 0
        while tile < last:
            count = row_end(g, tile, last) - tile
            take_dy(dy, g, output_tile(g, tile), count, o0, min(SO, g.O - o0), SO, zeros, z, at, SO, g.TB * SO + lanes,
                    lanes)
            tile, at = tile + count, at + count * SO

    @jit.kernel
    def add(micro, v, z, begins, count, zeros, sums, g, S, SO, a_rows, c_rows, P, lanes, x, dy, following, stop):
        # Tiles following .. stop - 1 come next: they are fetched while the products keep the core busy.
        xs, xe = rows_of(following, stop, g.H, g.W, g.C, g.XH, g)
        ys, ye = rows_of(following, stop, g.OH, g.OW, g.O, g.YH, g)
        for point in range(points):
            simd.prefetch(x, xs + (xe - xs) * point // points, xs + (xe - xs) * (point + 1) // points)
            simd.prefetch(dy, ys + (ye - ys) * point // points, ys + (ye - ys) * (point + 1) // points)
            for panel in range(SO // P):
                at = point * (S * g.C * SO + lanes) + panel * P
                init, i0, si = (zeros, 0, 0) if begins else (sums, at, 1)
                multiply(micro, 0, S * g.C, v, point * (g.TB * S * g.CP + lanes), a_rows, 1, 1, count, 0, 0, S * g.CP,
                         z, point * (g.TB * SO + lanes) + panel * P, 0, 0, SO,
                         init, i0, si, sums, at, c_rows, P, v.dtype.type(-np.inf), v, 0, 0)

    @jit.kernel
    def give(sums, dw, phases, more, g, SO, o0, edge, lanes):
        sd, plane = phases.shape[0] * g.C * SO + lanes, g.C * g.O
        for row in range(phases.shape[0] * g.C):
            order = phases[row // g.C, 2:]
            down, right = (order[r] - order[0]) * plane, (order[1] - order[0]) * plane  # taps are evenly apart
            for o in range(o0, min(o0 + SO, g.O), lanes):
                at, into = row * SO + o - o0, row % g.C * g.O + o
                if o + lanes <= g.O and not more:
                    back(sums, at, n * sd, sd, dw, order[0] * plane + into, down, right)
                    continue
                back(sums, at, n * sd, sd, edge, 0, r * lanes, lanes)
                width = min(lanes, g.O - o)
                for tap in range(order.size):
                    if more:
                        _add(edge, tap * lanes, dw, order[tap] * plane + into, width)
                    else:
                        simd.copy(edge, tap * lanes, dw, order[tap] * plane + into, width)

    return transform, add, give


@jit.kernel
def _add(source, start, target, at, count):
    """Add source[start ..] to target[at ..]."""
    for i in range(count):
        target[at + i] += source[start + i]


@functools.cache
def accumulate(m):
    """Make the driver that fills a row of `partials`, dw and db, for each chunk of the tiles.

    Within a chunk each `run` of tiles is summed apart: in float32 a sum's error grows with its length.
    """
    transform, add, give = _steps(m)
    n, r = len(B[m]), len(G[m][0])
    points = n**2

    @jit.driver
    def accumulate(x, dy, phases, partials, ones, zeros, row, g, SO, a_rows, c_rows, memory, edges, run, P, lanes,
                   micro, micro_row, waiting, task, tasks):
        room, edge = memory[task], edges[task]
        S, chunks, slabs = phases.shape[0], partials.shape[0], (g.OP + SO - 1) // SO
        weights, lowest = S * r * r * g.C * g.O, x.dtype.type(-np.inf)
        split = points * (g.TB * S * g.CP + lanes)
        rest = split + points * (g.TB * SO + lanes)
        outside = edge[edge.size - lanes :]
        simd.clear(outside, 0, lanes)
        v, z, sums = room[:split], room[split:rest], room[rest:]
        item = take(waiting, chunks * slabs, task, tasks)
        while item < chunks * slabs:
            chunk, o0 = item // slabs, item % slabs * SO
            dw, db = partials[chunk, :weights], partials[chunk, weights + o0 : weights + min(o0 + SO, g.O)]
            simd.clear(db, 0, db.size)
            begin, end = share(g.TILES, chunk, chunks)
            for start in range(begin, end, g.TB):
                stop, within = min(start + g.TB, end), (start - begin) % run
                transform(x, dy, phases, v, z, g, SO, o0, start, stop, outside, lanes)
                add(micro, v, z, within == 0, stop - start, zeros, sums, g, S, SO, a_rows, c_rows, P, lanes,
                    x, dy, stop, min(stop + g.TB, g.TILES))
                # A's second row is all ones: point (1, 1) of A dy A^T is the sum of the tile's dy.
                for o in range(0, db.size, P):
                    multiply(micro_row, 0, 1, ones, 0, row, 1, 1, stop - start, 0, 0, 0,
                             z, (n + 1) * (g.TB * SO + lanes) + o, 0, 0, SO, db, o, 1, db, o, row,
                             min(P, db.size - o), lowest, z, 0, 0)
                if stop == end or within + g.TB == run:
                    give(sums, dw, phases, start - begin >= run, g, SO, o0, edge, lanes)
            item = take(waiting, chunks * slabs, task, tasks)

    return accumulate
