"""Resizing on channels-last memory, one axis after the other: y = A_h x A_w^T.

Kernels see images as (rows, W C). A forward task makes rows of y: the blend of two rows of x, in scratch
memory, then of its pixels. A backward task makes rows of dx: the sum of the rows of dy that this row has a
part in, then of their pixels, in order: no two tasks write to one place.
"""

from nbprop import jit, layout
from nbprop.ops.flat import share, tasks


def _rows(x):
    """View an image batch (N, C, H, W) as (N H, W C)."""
    N, C, H, W = x.shape
    return layout.nhwc(x).reshape(N * H, W * C)


@jit.kernel
def _blend_rows(upper, lower, v, blended):
    one = blended.dtype.type(1)
    for i in range(blended.size):
        blended[i] = (one - v) * upper[i] + v * lower[i]


@jit.kernel
def _blend_pixels(line, into, columns, C):
    one = into.dtype.type(1)
    for ow in range(columns.first.size):
        w, w2, u = columns.first[ow] * C, columns.second[ow] * C, columns.weight[ow]
        left, right, pixel = line[w : w + C], line[w2 : w2 + C], into[ow * C : (ow + 1) * C]
        for i in range(C):
            pixel[i] = (one - u) * left[i] + u * right[i]


@jit.kernel
def _copy_pixels(line, into, columns, C):
    for ow in range(columns.first.size):
        w = columns.first[ow] * C
        shown, pixel = line[w : w + C], into[ow * C : (ow + 1) * C]
        for i in range(C):
            pixel[i] = shown[i]


@jit.driver
def _forward_rows(x, y, rows, columns, linear, H, C, work, task, tasks):
    """Fill a task's rows of y, counted over all images."""
    OH = rows.first.size
    begin, end = share(y.shape[0], task, tasks)
    line = work[task][: x.shape[1]]
    for row in range(begin, end):
        base, oh = row // OH * H, row % OH
        upper = x[base + rows.first[oh]]
        if linear:
            _blend_rows(upper, x[base + rows.second[oh]], rows.weight[oh], line)
            _blend_pixels(line, y[row], columns, C)
        else:
            _copy_pixels(upper, y[row], columns, C)


@jit.scalar
def _part(axis, o, i):
    # The weight of x's position i in y's position o; at the far edge both taps are i.
    zero, one = axis.weight.dtype.type(0), axis.weight.dtype.type(1)
    return ((one - axis.weight[o] if axis.first[o] == i else zero)
            + (axis.weight[o] if axis.second[o] == i else zero))


@jit.kernel
def _sum_rows(dy, base, rows, h, summed):
    summed[:] = 0
    for oh in range(rows.begin[h], rows.end[h]):
        v, line = _part(rows, oh, h), dy[base + oh]
        for i in range(summed.size):
            summed[i] += v * line[i]


@jit.kernel
def _sum_pixels(summed, into, columns, C):
    into[:] = 0
    for w in range(columns.begin.size):
        pixel = into[w * C : (w + 1) * C]
        for ow in range(columns.begin[w], columns.end[w]):
            u, d = _part(columns, ow, w), summed[ow * C : (ow + 1) * C]
            for i in range(C):
                pixel[i] += u * d[i]


@jit.driver
def _backward_rows(dy, dx, rows, columns, C, work, task, tasks):
    """Fill a task's rows of dx, counted over all images."""
    H, OH = rows.begin.size, rows.first.size
    begin, end = share(dx.shape[0], task, tasks)
    line = work[task][: dy.shape[1]]
    for row in range(begin, end):
        _sum_rows(dy, row // H * OH, rows, row % H, line)
        _sum_pixels(line, dx[row], columns, C)


def upsample_forward(x, y, rows, columns, linear, work):
    arguments = _rows(x), _rows(y), rows, columns, linear, x.shape[2], x.shape[1]
    _forward_rows(*arguments, work, min(tasks(y.size), len(work)))


def upsample_backward(dy, dx, rows, columns, linear, work):
    arguments = _rows(dy), _rows(dx), rows, columns, dx.shape[1]
    _backward_rows(*arguments, work, min(tasks(dy.size), len(work)))
