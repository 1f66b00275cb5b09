"""The sum over pixels: a bias's gradient where no product brings it along (seed 003, section 3.1.2)."""

import numpy as np
from numba import prange

from nbprop import jit

__all__ = ["partials_size", "sum_pixels"]

_CHUNKS = 32  # parts of the pixels that are summed apart, and then in order: the same bits for any number of threads


def partials_size(channels, dtype):
    """Return the elements of scratch memory for the partial sums, each on cache lines of its own."""
    line = 64 // np.dtype(dtype).itemsize
    return _CHUNKS * -(-channels // line) * line


def sum_pixels(rows, scratch, total):
    """Fill total (C,) with the sum of rows (pixels, C)."""
    partials = scratch[: partials_size(rows.shape[1], rows.dtype)].reshape(_CHUNKS, -1)
    _sum_chunks(rows, partials)
    np.sum(partials[:, : total.size], axis=0, out=total)


@jit.driver
def _sum_chunks(rows, partials):
    chunks, count = partials.shape[0], rows.shape[0]
    for chunk in prange(0, chunks):
        _sum_rows(rows, partials[chunk], chunk * count // chunks, (chunk + 1) * count // chunks)


@jit.kernel
def _sum_rows(rows, sums, first, last):
    sums[:] = 0
    for r in range(first, last):
        row = rows[r]
        for c in range(row.size):
            sums[c] += row[c]
