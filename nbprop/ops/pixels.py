"""The sum over pixels: a bias's gradient where no product brings it along (seed 003, section 3.1.2)."""

import numpy as np

from nbprop import jit
from nbprop.ops.flat import share, tasks

__all__ = ["partials_size", "sum_pixels"]

_CHUNKS = 32  # parts of the pixels that are summed apart, and then in order: the same bits for any number of threads


def partials_size(channels, dtype):
    """Return the elements of scratch memory for the partial sums, each on cache lines of its own."""
    line = 64 // np.dtype(dtype).itemsize
    return _CHUNKS * -(-channels // line) * line


def sum_pixels(rows, scratch, total):
    """Fill total (C,) with the sum of rows (pixels, C)."""
    partials = scratch[: partials_size(rows.shape[1], rows.dtype)].reshape(_CHUNKS, -1)
    _sum_chunks(rows, partials, tasks(rows.size))
    np.sum(partials[:, : total.size], axis=0, out=total)


@jit.driver
def _sum_chunks(rows, partials, task, tasks):
    for chunk in range(*share(partials.shape[0], task, tasks)):
        sums = partials[chunk]
        sums[:] = 0
        for r in range(*share(rows.shape[0], chunk, partials.shape[0])):
            row = rows[r]
            for c in range(row.size):
                sums[c] += row[c]
