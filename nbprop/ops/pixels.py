"""What is done to pixels beside a product: a bias for all of them, and its gradient, the sum (seed 003, 3.1.2)."""

import numpy as np

from nbprop import jit
from nbprop.ops.flat import share, tasks

__all__ = ["fill_pixels", "partials_size", "sum_pixels"]

_CHUNKS = 32  # parts of the pixels that are summed apart, and then in order: the same bits for any number of threads


def partials_size(channels, dtype):
    """Return the elements of scratch memory for the partial sums, each on cache lines of its own."""
    line = 64 // np.dtype(dtype).itemsize
    return _CHUNKS * -(-channels // line) * line


def sum_pixels(rows, scratch, total):
    """Fill total (C,) with the sum of rows (pixels, C)."""
    partials = scratch[: partials_size(rows.shape[1], rows.dtype)].reshape(_CHUNKS, -1)
    _sum_chunks(rows, partials, tasks(rows.size))
    _add_chunks(partials, total, 1)


@jit.driver
def _sum_chunks(rows, partials, task, tasks):
    for chunk in range(*share(partials.shape[0], task, tasks)):
        sums = partials[chunk]
        sums[:] = 0
        for r in range(*share(rows.shape[0], chunk, partials.shape[0])):
            row = rows[r]
            for c in range(row.size):
                sums[c] += row[c]


@jit.driver
def _add_chunks(partials, total, task, tasks):
    total[:] = 0
    for chunk in range(partials.shape[0]):
        row = partials[chunk]
        for c in range(total.size):
            total[c] += row[c]


def fill_pixels(bias, floor, y):
    """Fill every pixel of y (flat) with max(bias, floor), NaN kept."""
    _fill_pixels(bias, floor, y, tasks(y.size))


@jit.driver
def _fill_pixels(bias, floor, y, task, tasks):
    C = bias.size
    pixels = y.size // C
    begin, end = share((pixels + 15) // 16, task, tasks)  # sixteen begin at a cache line
    for pixel in range(begin * 16, min(end * 16, pixels)):
        row = y[pixel * C : (pixel + 1) * C]
        for c in range(C):
            row[c] = floor if bias[c] < floor else bias[c]
