"""Resizing on channels-last memory: the channels of one pixel are the lanes.

Kernels see images as (rows, W, C). Forward tasks are rows of y. Backward tasks are rows of dx, whose pixels
add up the pixels of y that they have a part in, in row order: no two tasks write to one place.
"""

from numba import prange

from nbprop import jit, layout
from nbprop.ops.flat import tasks


def _rows(x):
    """View an image batch (N, C, H, W) as (N H, W, C)."""
    N, C, H, W = x.shape
    return layout.nhwc(x).reshape(N * H, W, C)


@jit.kernel
def _blend(upper, lower, v, into, columns):
    """Fill a row of y from two rows of x, the lower one with weight v."""
    one = into.dtype.type(1)
    for ow in range(into.shape[0]):
        w, w2, u = columns.first[ow], columns.second[ow], columns.weight[ow]
        a, b, c, d = upper[w], upper[w2], lower[w], lower[w2]
        pixel = into[ow]
        for i in range(pixel.size):
            pixel[i] = (one - v) * ((one - u) * a[i] + u * b[i]) + v * ((one - u) * c[i] + u * d[i])


@jit.kernel
def _forward_rows(x, y, rows, columns, linear, H, begin, end):
    """Fill rows begin .. end - 1 of y, counted over all images."""
    OH = rows.first.size
    for row in range(begin, end):
        base, oh = row // OH * H, row % OH
        upper, into = x[base + rows.first[oh]], y[row]
        if linear:
            _blend(upper, x[base + rows.second[oh]], rows.weight[oh], into, columns)
            continue
        for ow in range(into.shape[0]):
            pixel, shown = into[ow], upper[columns.first[ow]]
            for i in range(pixel.size):
                pixel[i] = shown[i]


@jit.driver
def _forward_tasks(x, y, rows, columns, linear, H, count):
    for t in prange(count):
        begin, end = y.shape[0] * t // count, y.shape[0] * (t + 1) // count
        _forward_rows(x, y, rows, columns, linear, H, begin, end)


@jit.scalar
def _part(axis, o, i):
    # The weight of x's position i in y's position o; at the far edge both taps are i.
    zero, one = axis.weight.dtype.type(0), axis.weight.dtype.type(1)
    return ((one - axis.weight[o] if axis.first[o] == i else zero)
            + (axis.weight[o] if axis.second[o] == i else zero))


@jit.kernel
def _backward_rows(dy, dx, rows, columns, begin, end):
    """Fill rows begin .. end - 1 of dx, counted over all images."""
    H, OH = rows.begin.size, rows.first.size
    for row in range(begin, end):
        n, h = row // H, row % H
        into = dx[row]
        into[:] = 0
        for oh in range(rows.begin[h], rows.end[h]):
            v = _part(rows, oh, h)
            line = dy[n * OH + oh]
            for w in range(into.shape[0]):
                pixel = into[w]
                for ow in range(columns.begin[w], columns.end[w]):
                    share, d = v * _part(columns, ow, w), line[ow]
                    for i in range(pixel.size):
                        pixel[i] += share * d[i]


@jit.driver
def _backward_tasks(dy, dx, rows, columns, count):
    for t in prange(count):
        begin, end = dx.shape[0] * t // count, dx.shape[0] * (t + 1) // count
        _backward_rows(dy, dx, rows, columns, begin, end)


def upsample_forward(x, y, rows, columns, linear):
    arguments = _rows(x), _rows(y), rows, columns, linear, x.shape[2]
    count = tasks(y.size)
    if count == 1:
        _forward_rows(*arguments, 0, len(arguments[1]))
    else:
        _forward_tasks(*arguments, count)


def upsample_backward(dy, dx, rows, columns, linear):
    arguments = _rows(dy), _rows(dx), rows, columns
    count = tasks(dy.size)
    if count == 1:
        _backward_rows(*arguments, 0, len(arguments[1]))
    else:
        _backward_tasks(*arguments, count)
