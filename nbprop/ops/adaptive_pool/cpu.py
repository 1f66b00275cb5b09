"""Adaptive pooling on channels-last memory: the channels of one pixel are the lanes.

Arrays are seen as (pixels, channels). Forward tasks are windows, or blocks of channels of them where windows
are few, as in global pooling of one image; each channel is summed in one order, whatever the split.
"""

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops import flat, simd
from nbprop.ops.adaptive_pool.bounds import holding, window

_SMALL = 1 << 15  # elements of x that one thread pools in the time that starting the others may cost
_BLOCK = 64  # channels of a block
_FEW = 64  # windows below which they are cut into blocks


@jit.kernel
def _add_pixels(x, p, stop, first, total):
    """Add pixels p .. stop-1, channels from `first` on, four pixels at a time."""
    last = first + total.size
    while p + 4 <= stop:
        x0, x1, x2, x3 = x[p, first:last], x[p + 1, first:last], x[p + 2, first:last], x[p + 3, first:last]
        for c in range(total.size):
            total[c] += (x0[c] + x1[c]) + (x2[c] + x3[c])
        p += 4
    while p < stop:
        x0 = x[p, first:last]
        for c in range(total.size):
            total[c] += x0[c]
        p += 1


@jit.kernel
def _multiply(run, factor):
    for c in range(run.size):
        run[c] *= factor


@jit.kernel
def _average(x, y, planes, width, begin, end):
    """Fill jobs begin .. end-1: `width` channels of one window each; planes = (H, W, OH, OW)."""
    H, W, OH, OW = planes
    C = x.shape[1]
    T = x.dtype.type
    blocks = (C + width - 1) // width
    for job in range(begin, end):
        o, first = job // blocks, job % blocks * width
        n, oh, ow = o // (OH * OW), o // OW % OH, o % OW
        (top, bottom), (left, right) = window(oh, H, OH), window(ow, W, OW)
        total = y[o, first : min(first + width, C)]
        total[:] = 0
        for h in range(n * H + top, n * H + bottom):
            _add_pixels(x, h * W + left, h * W + right, first, total)
        _multiply(total, T(1) / T((bottom - top) * (right - left)))


@jit.driver
def _average_tasks(x, y, planes, width, jobs, tasks):
    for t in prange(0, tasks):
        _average(x, y, planes, width, jobs * t // tasks, jobs * (t + 1) // tasks)


def _jobs(y):
    """Return how many channels a job takes, and how many jobs there are."""
    N, C, OH, OW = y.shape
    width = max(C, 1) if N * OH * OW >= _FEW else _BLOCK
    return width, N * OH * OW * -(-C // width)


def adaptive_avg_pool2d_forward(x, y):
    width, jobs = _jobs(y)
    arrays = flat.rows(x), flat.rows(y), x.shape[2:] + y.shape[2:], width
    if x.size < _SMALL:
        _average(*arrays, 0, jobs)
    else:
        _average_tasks(*arrays, jobs, jit.threads())


@jit.kernel
def _add_share(run, factor, out, p, stop):
    """Add run * factor to pixels p .. stop-1."""
    for i in range(p, stop):
        pixel = out[i]
        for c in range(pixel.size):
            pixel[c] += run[c] * factor


@jit.kernel
def _spread_rows(dy, dx, planes, begin, end):
    """Fill rows begin .. end-1 of dx, counted over all images, from the windows that hold each row."""
    H, W, OH, OW = planes
    T = dx.dtype.type
    for row in range(begin, end):
        n, h = row // H, row % H
        dx[row * W : (row + 1) * W] = 0
        oh_first, oh_stop = holding(h, H, OH)
        for oh in range(oh_first, oh_stop):
            top, bottom = window(oh, H, OH)
            for ow in range(OW):
                left, right = window(ow, W, OW)
                share = T(1) / T((bottom - top) * (right - left))
                _add_share(dy[(n * OH + oh) * OW + ow], share, dx, row * W + left, row * W + right)


@jit.driver
def _spread_tasks(dy, dx, planes, rows, tasks):
    for t in prange(0, tasks):
        _spread_rows(dy, dx, planes, rows * t // tasks, rows * (t + 1) // tasks)


def adaptive_avg_pool2d_backward(dy, dx):
    rows = dx.shape[0] * dx.shape[2]
    arrays = flat.rows(dy), flat.rows(dx), dx.shape[2:] + dy.shape[2:]
    if dx.size < _SMALL:
        _spread_rows(*arrays, 0, rows)
    else:
        _spread_tasks(*arrays, rows, jit.threads())


@jit.kernel
def _compare(run, i, best, winners):
    """Let position i win where it is larger, or the first NaN."""
    j = np.int32(i)
    for c in range(best.size):
        v, b = run[c], best[c]
        take = ((v > b) | (v != v)) & (b == b)
        best[c] = v if take else b
        winners[c] = j if take else winners[c]


@jit.kernel
def _maxima(x, y, indices, planes, width, begin, end):
    """Fill jobs begin .. end-1: `width` channels of one window each."""
    H, W, OH, OW = planes
    C = x.shape[1]
    blocks = (C + width - 1) // width
    for job in range(begin, end):
        o, first = job // blocks, job % blocks * width
        last = min(first + width, C)
        n, oh, ow = o // (OH * OW), o // OW % OH, o % OW
        (top, bottom), (left, right) = window(oh, H, OH), window(ow, W, OW)
        best, winners = y[o, first:last], indices[o, first:last]
        simd.copy(x, ((n * H + top) * W + left) * C + first, best, 0, last - first)
        winners[:] = np.int32(top * W + left)
        for h in range(top, bottom):
            for w in range(left, right):
                _compare(x[(n * H + h) * W + w, first:last], h * W + w, best, winners)


@jit.driver
def _maxima_tasks(x, y, indices, planes, width, jobs, tasks):
    for t in prange(0, tasks):
        _maxima(x, y, indices, planes, width, jobs * t // tasks, jobs * (t + 1) // tasks)


def adaptive_max_pool2d_forward(x, y, indices):
    width, jobs = _jobs(y)
    arrays = flat.rows(x), flat.rows(y), flat.rows(indices), x.shape[2:] + y.shape[2:], width
    if x.size < _SMALL:
        _maxima(*arrays, 0, jobs)
    else:
        _maxima_tasks(*arrays, jobs, jit.threads())


@jit.kernel
def _scatter(dy, indices, dx, images, width, begin, end):
    """Fill blocks begin .. end-1, each `width` channels of one image; `images` is how many there are."""
    C = dx.shape[1]
    O, P = dy.shape[0] // images, dx.shape[0] // images
    blocks = (C + width - 1) // width
    for block in range(begin, end):
        n, first = block // blocks, block % blocks * width
        last = min(first + width, C)
        dx[n * P : (n + 1) * P, first:last] = 0
        for o in range(n * O, (n + 1) * O):
            for c in range(first, last):
                dx[np.uintp(n * P + indices[o, c]), c] += dy[o, c]


@jit.driver
def _scatter_tasks(dy, indices, dx, images, width, blocks, tasks):
    for t in prange(0, tasks):
        _scatter(dy, indices, dx, images, width, blocks * t // tasks, blocks * (t + 1) // tasks)


def adaptive_max_pool2d_backward(dy, indices, dx):
    N, C = dx.shape[:2]
    width = max(C, 1) if jit.threads() <= N else _BLOCK
    blocks = N * -(-C // width)
    arrays = flat.rows(dy), flat.rows(indices), flat.rows(dx), max(N, 1), width
    if dx.size < _SMALL:
        _scatter(*arrays, 0, blocks)
    else:
        _scatter_tasks(*arrays, blocks, jit.threads())
