"""Norms on channels-last memory, in four passes: moments, forward, the gradient's sums, dx.

Each pass cuts memory alike (see cut.py), and tasks share out the chunks. Where there are blocks enough, as with an
instance norm's images, a task takes whole ones and does two passes over each: the second finds it in the cache.

Sums run over a block of tiles in the dtype of x, and over blocks, chunks and channels of a group in float64.
Deviations are taken from the mean of all that came before: the rounding of a block's moments is then at most as large
as that of the variance they join.
"""

from types import SimpleNamespace

import numpy as np

from nbprop import jit
from nbprop.ops.flat import flat, flat_or_none, share, tasks
from nbprop.ops.moments import joined
from nbprop.ops.norm.chunks import BLOCK, bounds, fold, moments_chunk
from nbprop.ops.norm.cut import cut
from nbprop.ops.norm.deviation import affine, divisors
from nbprop.ops.through_relu import relu_slope
from nbprop.tape import launches


def workspace(shape, B, dtype):
    size = cut(shape, B)
    chunks = size.B * size.K
    return SimpleNamespace(
        size=size,
        tiles=np.empty((chunks, 5, size.T), dtype),
        partials=np.empty((chunks, 2, size.C), np.float64),
    )


@jit.driver
def _moments_chunks(x, size, tiles, partials, task, tasks):
    begin, end = share(len(tiles), task, tasks)
    for t in range(begin, end):
        moments_chunk(t, x, size, tiles, partials)


@jit.kernel
def _join_channels(rows, mean, scatter, more, other_mean, other_scatter):
    for c in range(mean.size):
        mean[c], scatter[c] = joined(rows, mean[c], scatter[c], more, other_mean[c], other_scatter[c])


@jit.kernel
def _join_chunks(b, size, partials, mean, variance):
    """Join the chunks of block b in order, then the channels of each group."""
    _, R, C, _, K, step = size
    G = mean.shape[1]
    D = C // G
    first = partials[b * K]
    for k in range(1, K):
        other = partials[b * K + k]
        rows, more = min(k * step // C, R), min((k + 1) * step // C, R) - min(k * step // C, R)
        if more > 0:
            _join_channels(rows, first[0], first[1], more, other[0], other[1])
    for g in range(G):
        centre, scatter = first[0, g * D], first[1, g * D]
        for c in range(1, D):
            centre, scatter = joined(R * c, centre, scatter, R, first[0, g * D + c], first[1, g * D + c])
        # Rounding may leave a little less than nothing of equal values.
        mean[b, g], variance[b, g] = centre, 0.0 if scatter < 0 else scatter / max(R * D, 1)


@jit.driver
def _join_blocks(size, partials, mean, variance, task, tasks):
    for b in range(*share(size[0], task, tasks)):
        _join_chunks(b, size, partials, mean, variance)


@launches
def norm_statistics(x, mean, variance, work):
    _moments_chunks(flat(x), work.size, work.tiles, work.partials, tasks(x.size))
    _join_blocks(work.size, work.partials, mean, variance, 1)


@jit.kernel
def _divide(b, variance, eps, divisor, rstd, pull):
    for g in range(variance.shape[1]):
        rstd[b, g], pull[b, g] = divisors(variance[b, g], eps, divisor)


@jit.driver
def _divide_blocks(variance, eps, divisor, rstd, pull, task, tasks):
    for b in range(*share(variance.shape[0], task, tasks)):
        _divide(b, variance, eps, divisor, rstd, pull)


@launches
def norm_divisors(variance, eps, divisor, rstd, pull):
    _divide_blocks(variance, eps, divisor, rstd, pull, 1)


@launches
def norm_remember(mean, variance, share, unbiased, running_mean, running_var):
    _remember(mean, variance, share, unbiased, running_mean, running_var, 1)


@jit.driver
def _remember(mean, variance, share, unbiased, running_mean, running_var, task, tasks):
    B, G = mean.shape
    for g in range(G):
        m, v = 0.0, 0.0
        for b in range(B):
            m += mean[b, g]
            v += variance[b, g]
        running_mean[g] += share * (m / B - running_mean[g])
        running_var[g] += share * (v / B * unbiased - running_var[g])


@jit.kernel
def _forward_tile(weight, bias, mean, rstd, centre, scale, shift):
    """Fill the tiles of y = (x - centre) scale + shift, which has the mean's digits beyond x's dtype."""
    C, G = weight.size, mean.size
    D = C // G
    for g in range(G):
        for c in range(g * D, (g + 1) * D):  # c // D would be as many divisions
            centre[c] = mean[g]
            scale[c], shift[c] = affine(weight[c], bias[c], mean[g], rstd[g], centre[c])
    _repeat(centre, C)
    _repeat(scale, C)
    _repeat(shift, C)


@jit.kernel
def _repeat(tile, C):
    """Fill a tile with copies of its first C elements."""
    for j in range(C, tile.size):
        tile[j] = tile[j - C]


@jit.scalar
def _part(added, start, stop):
    """Return a part of what is added, if there is anything."""
    if added is None:
        return None
    return added[start:stop]


@jit.scalar
def _plus(v, added, j):
    """Return v plus what is added, if there is anything."""
    if added is None:
        return v
    return v + added[j]


@jit.kernel
def _scale_run(x, centre, scale, shift, added, floor, y):
    for start in range(0, x.size, centre.size):
        stop = start + centre.size
        r, a, o = x[start:stop], _part(added, start, stop), y[start:stop]
        for j in range(r.size):
            v = _plus((r[j] - centre[j]) * scale[j] + shift[j], a, j)
            o[j] = floor if v < floor else v  # NaN stays


@jit.scalar
def _own(t, begin, size):
    """Return the chunk, of those from `begin` on, whose tiles serve all of t's block: 0.9 us for 64 channels."""
    return max(begin, t - t % size[4])


@jit.kernel
def _forward_several(begin, end, x, weight, bias, mean, rstd, added, floor, y, size, tiles):
    """Fill y in the chunks begin .. end - 1."""
    for t in range(begin, end):
        b, start, stop = bounds(size, t)
        own = _own(t, begin, size)
        centre, scale, shift = tiles[own, 0], tiles[own, 1], tiles[own, 2]
        if t == own:
            _forward_tile(weight, bias, mean[b], rstd[b], centre, scale, shift)
        _scale_run(x[start:stop], centre, scale, shift, _part(added, start, stop), floor, y[start:stop])


@jit.driver
def _forward_chunks(x, weight, bias, mean, rstd, added, floor, y, size, tiles, task, tasks):
    begin, end = share(len(tiles), task, tasks)
    _forward_several(begin, end, x, weight, bias, mean, rstd, added, floor, y, size, tiles)


def _floor(relu, x):
    """Return what outputs are at least."""
    return x.dtype.type(0 if relu else -np.inf)


@launches
def norm_forward(x, weight, bias, mean, rstd, added, relu, y, work):
    arrays = flat(x), weight, bias, mean, rstd, flat_or_none(added), _floor(relu, x), flat(y)
    _forward_chunks(*arrays, work.size, work.tiles, tasks(x.size))


def _whole_blocks(B, tasks):
    """Say whether tasks may take whole blocks and none waits for long: the fullest has at most 9/8 of its share.

    Emerald Rapids, two threads, forward and backward with 8 images of 0.8 MB 1.11 times as fast as chunk by chunk, 16
    of 0.4 MB 1.2, 8 of 3.2 MB 1.05: from memory or L3 x and dy are read once, not twice (5 passes of 8).
    """
    return 0 < 8 * -(-B // tasks) * tasks <= 9 * B


@jit.driver
def _forward_blocks(x, weight, bias, eps, divisor, added, floor, mean, variance, rstd, pull, y, size, tiles, partials,
                    task, tasks):  # fmt: skip
    """Normalise a task's blocks with their own statistics."""
    begin, end = share(size[0], task, tasks)
    K = size[4]
    for b in range(begin, end):
        for t in range(b * K, (b + 1) * K):
            moments_chunk(t, x, size, tiles, partials)
        _join_chunks(b, size, partials, mean, variance)
        _divide(b, variance, eps, divisor, rstd, pull)
        _forward_several(b * K, (b + 1) * K, x, weight, bias, mean, rstd, added, floor, y, size, tiles)


@launches
def norm_forward_own(x, weight, bias, eps, divisor, added, relu, mean, variance, rstd, pull, y, work):
    threads = tasks(x.size)
    if _whole_blocks(work.size.B, threads):
        arrays = flat_or_none(added), _floor(relu, x), mean, variance, rstd, pull, flat(y)
        _forward_blocks(flat(x), weight, bias, eps, divisor, *arrays, work.size, work.tiles, work.partials, threads)
        return
    norm_statistics(x, mean, variance, work)
    norm_divisors(variance, eps, divisor, rstd, pull)
    norm_forward(x, weight, bias, mean, rstd, added, relu, y, work)


@jit.scalar
def _gated(dy, deviation, relu, scale, shift, j):
    """Return dy, multiplied by the slope of the ReLU behind, if there is one: at the output, made again as it was."""
    if relu is None:
        return dy
    return dy * relu_slope(deviation * scale[j] + shift[j])


@jit.kernel
def _add_products(dy, x, relu, centre, scale, shift, sums, products):
    """Add dy and dy (x - centre) to the tile's sums, four tiles at a time."""
    T = centre.size
    fours = dy.size // (4 * T)
    for i in range(fours):
        a, b, c, d, e = 4 * i * T, (4 * i + 1) * T, (4 * i + 2) * T, (4 * i + 3) * T, (4 * i + 4) * T
        dy0, x0, dy1, x1 = dy[a:b], x[a:b], dy[b:c], x[b:c]
        dy2, x2, dy3, x3 = dy[c:d], x[c:d], dy[d:e], x[d:e]
        for j in range(T):
            r0, r1, r2, r3 = x0[j] - centre[j], x1[j] - centre[j], x2[j] - centre[j], x3[j] - centre[j]
            d0, d1 = _gated(dy0[j], r0, relu, scale, shift, j), _gated(dy1[j], r1, relu, scale, shift, j)
            d2, d3 = _gated(dy2[j], r2, relu, scale, shift, j), _gated(dy3[j], r3, relu, scale, shift, j)
            sums[j] += (d0 + d1) + (d2 + d3)
            products[j] += (d0 * r0 + d1 * r1) + (d2 * r2 + d3 * r3)
    for start in range(4 * fours * T, dy.size, T):
        rest, r = dy[start : start + T], x[start : start + T]
        for j in range(rest.size):
            r0 = r[j] - centre[j]
            d = _gated(rest[j], r0, relu, scale, shift, j)
            sums[j] += d
            products[j] += d * r0


@jit.kernel
def _sums_several(begin, end, dy, x, weight, bias, mean, rstd, relu, size, tiles, partials):
    """Fill the partials of the chunks begin .. end - 1 with their sums of dy and dy (x - mean), per channel."""
    for t in range(begin, end):
        b, own = t // size[4], _own(t, begin, size)
        if t == own:
            _forward_tile(weight, bias, mean[b], rstd[b], tiles[own, 0], tiles[own, 1], tiles[own, 2])
        _sums_chunk(t, dy, x, mean[b], relu, size, tiles[own], partials[t])


@jit.kernel
def _sums_chunk(t, dy, x, mean, relu, size, tiles, partials):
    """Do it for one chunk."""
    C, T = size[2], size[3]
    D = C // mean.size
    _, start, stop = bounds(size, t)
    centre, scale, shift, sums, products = tiles[0], tiles[1], tiles[2], tiles[3], tiles[4]
    partials[:] = 0
    for at in range(start, stop, BLOCK * T):
        last = min(at + BLOCK * T, stop)
        sums[:] = 0
        products[:] = 0
        _add_products(dy[at:last], x[at:last], relu, centre, scale, shift, sums, products)
        fold(sums, C)
        fold(products, C)
        for g in range(mean.size):
            for c in range(g * D, (g + 1) * D):
                s = np.float64(sums[c])
                partials[0, c] += s
                partials[1, c] += products[c] - (mean[g] - centre[c]) * s


@jit.driver
def _sums_chunks(dy, x, weight, bias, mean, rstd, relu, size, tiles, partials, task, tasks):
    begin, end = share(len(tiles), task, tasks)
    _sums_several(begin, end, dy, x, weight, bias, mean, rstd, relu, size, tiles, partials)


@jit.kernel
def _add_chunks(b, size, partials, sums):
    """Add up the chunks of block b in order."""
    K = size[4]
    for i in range(2):
        total = sums[i, b]
        total[:] = 0
        for k in range(K):
            part = partials[b * K + k, i]
            for c in range(total.size):
                total[c] += part[c]


@jit.driver
def _add_blocks(size, partials, sums, task, tasks):
    for b in range(*share(size[0], task, tasks)):
        _add_chunks(b, size, partials, sums)


@launches
def norm_backward_sums(dy, x, weight, bias, mean, rstd, relu, sums, work):
    arrays = flat(dy), flat(x), weight, bias, mean, rstd, relu or None
    _sums_chunks(*arrays, work.size, work.tiles, work.partials, tasks(x.size))
    _add_blocks(work.size, work.partials, sums, 1)


@launches
def norm_backward_weight(sums, rstd, dw, db):
    _weight_gradient(sums, rstd, dw, db, 1)


@jit.driver
def _weight_gradient(sums, rstd, dw, db, task, tasks):
    B, G = rstd.shape
    D = dw.size // max(G, 1)
    for c in range(dw.size):
        total, product = 0.0, 0.0
        for b in range(B):
            total += sums[0, b, c]
            product += sums[1, b, c] * rstd[b, c // D]
        dw[c], db[c] = product, total


@jit.kernel
def _input_tile(weight, bias, mean, rstd, pull, sums, b, fixed, m, tiles):
    """Fill the tiles of dx = dy scale + ((x - centre) slope + rest), and y = (x - centre) scale + shift."""
    centre, scale, shift, slope, rest = tiles[0], tiles[1], tiles[2], tiles[3], tiles[4]
    _forward_tile(weight, bias, mean[b], rstd[b], centre, scale, shift)
    C, G = weight.size, mean.shape[1]
    D = C // G
    for g in range(G):
        total, product = 0.0, 0.0
        if not fixed:
            for c in range(g * D, (g + 1) * D):
                total += weight[c] * sums[0, b, c]
                product += weight[c] * sums[1, b, c]
        turn = -pull[b, g] * product / m
        for c in range(g * D, (g + 1) * D):
            slope[c] = turn
            rest[c] = -rstd[b, g] * total / m - (mean[b, g] - centre[c]) * turn
    _repeat(slope, C)
    _repeat(rest, C)


@jit.kernel
def _input_run(dy, x, relu, centre, scale, shift, slope, rest, dx):
    for start in range(0, dy.size, centre.size):
        stop = start + centre.size
        d, r, o = dy[start:stop], x[start:stop], dx[start:stop]
        for j in range(d.size):
            r0 = r[j] - centre[j]
            o[j] = _gated(d[j], r0, relu, scale, shift, j) * scale[j] + (r0 * slope[j] + rest[j])


@jit.kernel
def _input_several(begin, end, dy, x, weight, bias, mean, rstd, pull, sums, fixed, relu, dx, size, tiles):
    """Fill dx in the chunks begin .. end - 1."""
    m = max(size[1] * (size[2] // mean.shape[1]), 1)
    for t in range(begin, end):
        b, start, stop = bounds(size, t)
        own = _own(t, begin, size)
        if t == own:
            _input_tile(weight, bias, mean, rstd, pull, sums, b, fixed, m, tiles[own])
        centre, scale, shift, slope, rest = tiles[own, 0], tiles[own, 1], tiles[own, 2], tiles[own, 3], tiles[own, 4]
        _input_run(dy[start:stop], x[start:stop], relu, centre, scale, shift, slope, rest, dx[start:stop])


@jit.driver
def _input_chunks(dy, x, weight, bias, mean, rstd, pull, sums, fixed, relu, dx, size, tiles, task, tasks):
    begin, end = share(len(tiles), task, tasks)
    _input_several(begin, end, dy, x, weight, bias, mean, rstd, pull, sums, fixed, relu, dx, size, tiles)


@launches
def norm_backward_input(dy, x, weight, bias, mean, rstd, pull, sums, fixed, relu, dx, work):
    arrays = flat(dy), flat(x), weight, bias, mean, rstd, pull, sums, fixed, relu or None, flat(dx)
    _input_chunks(*arrays, work.size, work.tiles, tasks(x.size))


@jit.driver
def _backward_blocks(dy, x, weight, bias, mean, rstd, pull, relu, sums, dx, size, tiles, partials, task, tasks):
    """Fill sums and dx of a task's blocks."""
    begin, end = share(size[0], task, tasks)
    K = size[4]
    for b in range(begin, end):
        first, last = b * K, (b + 1) * K
        _sums_several(first, last, dy, x, weight, bias, mean, rstd, relu, size, tiles, partials)
        _add_chunks(b, size, partials, sums)
        _input_several(first, last, dy, x, weight, bias, mean, rstd, pull, sums, False, relu, dx, size, tiles)


@launches
def norm_backward_own(dy, x, weight, bias, mean, rstd, pull, relu, sums, dx, work):
    threads = tasks(x.size)
    if _whole_blocks(work.size.B, threads):
        arrays = flat(dy), flat(x), weight, bias, mean, rstd, pull, relu or None, sums, flat(dx)
        _backward_blocks(*arrays, work.size, work.tiles, work.partials, threads)
        return
    norm_backward_sums(dy, x, weight, bias, mean, rstd, relu, sums, work)
    norm_backward_input(dy, x, weight, bias, mean, rstd, pull, sums, False, relu, dx, work)
