"""Adaptive pooling on channels-last memory: the channels of one pixel are the lanes.

Arrays are seen as (pixels, channels). Forward tasks are windows, or blocks of channels of them where windows
are few, as in global pooling of one image; each channel is summed in one order, whatever the split.
"""

import numpy as np

from nbprop import jit
from nbprop.ops import flat, simd
from nbprop.ops.adaptive_pool.bounds import holding, window
from nbprop.tape import launches

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


@jit.driver
def _average(x, y, planes, width, task, tasks):
    """Fill a task's jobs: `width` channels of one window each; planes = (H, W, OH, OW)."""
    H, W, OH, OW = planes
    C = x.shape[1]
    T = x.dtype.type
    blocks = (C + width - 1) // width
    begin, end = flat.share(y.shape[0] * blocks, task, tasks)
    for job in range(begin, end):
        o, first = job // blocks, job % blocks * width
        n, oh, ow = o // (OH * OW), o // OW % OH, o % OW
        (top, bottom), (left, right) = window(oh, H, OH), window(ow, W, OW)
        total = y[o, first : min(first + width, C)]
        total[:] = 0
        for h in range(n * H + top, n * H + bottom):
            _add_pixels(x, h * W + left, h * W + right, first, total)
        _multiply(total, T(1) / T((bottom - top) * (right - left)))


def _width(y):
    """Return how many channels a job takes."""
    N, C, OH, OW = y.shape
    return max(C, 1) if N * OH * OW >= _FEW else _BLOCK


@launches
def adaptive_avg_pool2d_forward(x, y):
    arrays = flat.rows(x), flat.rows(y), x.shape[2:] + y.shape[2:], _width(y)
    _average(*arrays, flat.tasks(x.size))


@jit.kernel
def _add_share(run, factor, out, p, stop):
    """Add run * factor to pixels p .. stop-1."""
    for i in range(p, stop):
        pixel = out[i]
        for c in range(pixel.size):
            pixel[c] += run[c] * factor


@jit.driver
def _spread_rows(dy, dx, planes, task, tasks):
    """Fill a task's rows of dx, counted over all images, from the windows that hold each row."""
    H, W, OH, OW = planes
    T = dx.dtype.type
    begin, end = flat.share(dx.shape[0] // W, task, tasks)
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


@launches
def adaptive_avg_pool2d_backward(dy, dx):
    arrays = flat.rows(dy), flat.rows(dx), dx.shape[2:] + dy.shape[2:]
    _spread_rows(*arrays, flat.tasks(dx.size))


@jit.kernel
def _compare(run, i, best, winners):
    """Let position i win where it is larger, or the first NaN."""
    j = np.int32(i)
    for c in range(best.size):
        v, b = run[c], best[c]
        take = ((v > b) | (v != v)) & (b == b)
        best[c] = v if take else b
        winners[c] = j if take else winners[c]


@jit.driver
def _maxima(x, y, indices, planes, width, task, tasks):
    """Fill a task's jobs: `width` channels of one window each."""
    H, W, OH, OW = planes
    C = x.shape[1]
    blocks = (C + width - 1) // width
    begin, end = flat.share(y.shape[0] * blocks, task, tasks)
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


@launches
def adaptive_max_pool2d_forward(x, y, indices):
    arrays = flat.rows(x), flat.rows(y), flat.rows(indices), x.shape[2:] + y.shape[2:], _width(y)
    _maxima(*arrays, flat.tasks(x.size))


@jit.driver
def _scatter(dy, indices, dx, images, width, task, tasks):
    """Fill a task's blocks, each `width` channels of one image; `images` is how many there are."""
    C = dx.shape[1]
    O, P = dy.shape[0] // images, dx.shape[0] // images
    blocks = (C + width - 1) // width
    begin, end = flat.share(images * blocks, task, tasks)
    for block in range(begin, end):
        n, first = block // blocks, block % blocks * width
        last = min(first + width, C)
        dx[n * P : (n + 1) * P, first:last] = 0
        for o in range(n * O, (n + 1) * O):
            for c in range(first, last):
                dx[np.uintp(n * P + indices[o, c]), c] += dy[o, c]


@launches
def adaptive_max_pool2d_backward(dy, indices, dx):
    N, C = dx.shape[:2]
    width = max(C, 1) if jit.threads() <= N else _BLOCK
    arrays = flat.rows(dy), flat.rows(indices), flat.rows(dx), max(N, 1), width
    _scatter(*arrays, flat.tasks(dx.size))
