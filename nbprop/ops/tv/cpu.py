"""Total variation on channels-last memory: one pass over rows of W C elements, each against the row below.

For a row i, p and q are what its differences give to the right and down; then

    dx[i] = q of row i - 1  -  p  -  q  +  p of one pixel to the left

so each row needs only the q of the row above: three rows of scratch memory per task. Until its gradient is known,
a row of dx holds the row's norms, whose sum is taken in a loop of its own (see `run_sum`). A band of rows begins by
computing the q above it once more, so that no two tasks write to one place. Bands are fixed, and each has its
own sum: any number of threads gives the same bits.
"""

import math

import numpy as np

from nbprop import jit, layout
from nbprop.ops.flat import share, tasks
from nbprop.ops.run_sum import run_sum


@jit.kernel
def _isotropic(row, right, below, p, q, norms, eps2):
    """Fill p, q and norms for a run of elements."""
    zero, one = row.dtype.type(0), row.dtype.type(1)
    for i in range(row.size):
        across, down = right[i] - row[i], below[i] - row[i]
        norm = math.sqrt(across * across + down * down + eps2)
        over = zero if norm == zero else one / norm
        p[i] = across * over
        q[i] = down * over
        norms[i] = norm


@jit.kernel
def _anisotropic(row, right, below, p, q, norms, eps2):
    """Fill p, q and norms, the sums of both, for a run of elements."""
    zero = row.dtype.type(0)
    for i in range(row.size):
        across, down = right[i] - row[i], below[i] - row[i]
        norm_across = math.sqrt(across * across + eps2)
        norm_down = math.sqrt(down * down + eps2)
        p[i] = zero if norm_across == zero else across / norm_across
        q[i] = zero if norm_down == zero else down / norm_down
        norms[i] = norm_across + norm_down


@jit.kernel
def _row(row, below, p, q, norms, C, anisotropic, eps2):
    """Fill p[C:], q and norms for one row. The last pixel is its own right neighbour."""
    own, last = p[C:], row.size - C
    if anisotropic:
        _anisotropic(row[:last], row[C:], below[:last], own[:last], q[:last], norms[:last], eps2)
        _anisotropic(row[last:], row[last:], below[last:], own[last:], q[last:], norms[last:], eps2)
    else:
        _isotropic(row[:last], row[C:], below[:last], own[:last], q[:last], norms[:last], eps2)
        _isotropic(row[last:], row[last:], below[last:], own[last:], q[last:], norms[last:], eps2)


@jit.kernel
def _gather(into, above, p, q, C, scale):
    left, own = p[: into.size], p[C:]
    for i in range(into.size):
        into[i] = scale * (above[i] - own[i] - q[i] + left[i])


@jit.kernel
def _band(x, dx, first, end, C, anisotropic, eps2, scale, work):
    """Fill rows first .. end - 1 of one image's gradient, x and dx being (H, W C); return their sum."""
    H, length = x.shape
    p, above, q = work[: length + C], work[length + C : 2 * length + C], work[2 * length + C :]
    if first:
        _row(x[first - 1], x[first], p, above, dx[first], C, anisotropic, eps2)
    else:
        above[:] = 0
    p[:C] = 0
    total = 0.0
    for i in range(first, end):
        # The last row is its own lower neighbour.
        _row(x[i], x[min(i + 1, H - 1)], p, q, dx[i], C, anisotropic, eps2)
        total += run_sum(dx[i])
        _gather(dx[i], above, p, q, C, scale)
        above, q = q, above
    return total


@jit.driver
def _bands(x, dx, C, anisotropic, eps2, scale, sums, work, task, tasks):
    begin, end = share(sums.size, task, tasks)
    bands = sums.shape[1]
    H = x.shape[1]
    for band in range(begin, end):
        n, k = band // bands, band % bands
        first, stop = share(H, k, bands)
        sums[n, k] = _band(x[n], dx[n], first, stop, C, anisotropic, eps2, scale, work[task])


def workspace(shape, dtype):
    """Allocate three rows per task."""
    _, C, _, W = shape
    return layout.empty((jit.threads(), (3 * W + 1) * C), dtype)


def total_variation(x, anisotropic, eps, scale, dx, sums, work):
    N, C, H, W = x.shape
    rows, gradient = (layout.nhwc(a).reshape(N, H, W * C) for a in (x, dx))
    real = x.dtype.type
    count = min(tasks(x.size), len(work))
    _bands(rows, gradient, C, anisotropic, real(eps) * real(eps), real(scale), sums, work, count)


def totals(sums, scale, values):
    np.multiply(sums.sum(axis=1) if len(values) == len(sums) else sums.sum(), scale, out=values)
