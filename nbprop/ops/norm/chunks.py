"""A chunk of the CPU's norms (see cut.py): where it lies, and its moments, tile by tile."""

import numpy as np

from nbprop import jit
from nbprop.ops.moments import joined

__all__ = ["BLOCK", "bounds", "fold", "moments_chunk"]

BLOCK = 64  # tiles that are summed up in the dtype of x


@jit.scalar
def bounds(size, t):
    """Return the block of chunk t, and its run of memory; none if rounding up left nothing for it."""
    _, R, C, _, K, step = size
    b, k = t // K, t % K
    return b, b * R * C + min(k * step, R * C), b * R * C + min((k + 1) * step, R * C)


@jit.kernel
def _add_moments(run, centre, sums, squares):
    """Add run - centre and its square to the tile's sums, four tiles at a time."""
    T = centre.size
    fours = run.size // (4 * T)
    for i in range(fours):
        r0 = run[4 * i * T : (4 * i + 1) * T]
        r1 = run[(4 * i + 1) * T : (4 * i + 2) * T]
        r2 = run[(4 * i + 2) * T : (4 * i + 3) * T]
        r3 = run[(4 * i + 3) * T : (4 * i + 4) * T]
        for j in range(T):
            d0, d1, d2, d3 = r0[j] - centre[j], r1[j] - centre[j], r2[j] - centre[j], r3[j] - centre[j]
            sums[j] += (d0 + d1) + (d2 + d3)
            squares[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    for start in range(4 * fours * T, run.size, T):
        rest = run[start : start + T]  # the last one may be shorter
        for j in range(rest.size):
            d = rest[j] - centre[j]
            sums[j] += d
            squares[j] += d * d


@jit.kernel
def fold(sums, C):
    """Halve a tile until its first C elements hold each channel's sum."""
    width = sums.size
    while width > C:
        width //= 2
        low, high = sums[:width], sums[width : 2 * width]
        for j in range(width):
            low[j] += high[j]


@jit.kernel
def _spread(mean, tile):
    """Fill a tile with q copies of the channels' means."""
    for start in range(0, tile.size, mean.size):
        part = tile[start : start + mean.size]
        for c in range(part.size):
            part[c] = mean[c]


@jit.kernel
def _join_block(centre, sums, squares, rows, block_rows, mean, scatter):
    """Join `block_rows` rows with sums of deviations from `centre` to `rows` rows with mean and scatter."""
    for c in range(mean.size):
        s, d = np.float64(sums[c]), np.float64(centre[c])
        own = s / block_rows
        mean[c], scatter[c] = joined(rows, mean[c], scatter[c], block_rows, d + own, squares[c] - s * own)


@jit.kernel
def moments_chunk(t, x, size, tiles, partials):
    """Fill chunk t's partials with its rows' mean and sum of squared deviations from it, per channel."""
    C, T = size[2], size[3]
    _, start, stop = bounds(size, t)
    centre, sums, squares = tiles[t, 0], tiles[t, 1], tiles[t, 2]
    mean, scatter = partials[t, 0], partials[t, 1]
    mean[:] = 0
    scatter[:] = 0
    # The first tile's mean is where deviations are first taken from.
    head = x[start : min(start + T, stop)]
    centre[:] = 0
    sums[:] = 0
    _add_moments(head, centre, sums, squares)
    fold(sums, C)
    for c in range(C):
        mean[c] = sums[c] / max(head.size // C, 1)
    rows = 0
    for at in range(start, stop, BLOCK * T):
        run = x[at : min(at + BLOCK * T, stop)]
        _spread(mean, centre)
        sums[:] = 0
        squares[:] = 0
        _add_moments(run, centre, sums, squares)
        fold(sums, C)
        fold(squares, C)
        _join_block(centre, sums, squares, rows, run.size // C, mean, scatter)
        rows += run.size // C
