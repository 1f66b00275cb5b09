"""Borders on channels-last memory: rows of pixels are copied in one run, their ends pixel by pixel.

Kernels see images as (rows, W C). Forward tasks are rows of y. Backward tasks are rows of dx, which add up
the rows of dy that show them, in order: no two tasks write to one place.
"""

from nbprop import jit, layout
from nbprop.ops.border.axis import axis
from nbprop.ops.flat import share, tasks


def _pixel_rows(x):
    """View an image batch (N, C, H, W) as (N H, W C)."""
    N, C, H, W = x.shape
    return layout.nhwc(x).reshape(N * H, W * C)


@jit.driver
def _forward_rows(x, y, value, rows, columns, H, C, task, tasks):
    """Fill a task's rows of y, counted over all images."""
    OH = rows.source.size
    begin, end = share(y.shape[0], task, tasks)
    for row in range(begin, end):
        h = rows.source[row % OH]
        into = y[row]
        if h < 0:
            into[:] = value
            continue
        line = x[row // OH * H + h]
        middle = into[columns.first * C : columns.stop * C]
        run = line[columns.begin * C : columns.begin * C + middle.size]
        for i in range(middle.size):
            middle[i] = run[i]
        _show_ends(line, into, value, columns, C, 0, columns.first)
        _show_ends(line, into, value, columns, C, columns.stop, columns.source.size)


@jit.kernel
def _show_ends(line, into, value, columns, C, begin, end):
    for o in range(begin, end):
        i = columns.source[o]
        pixel = into[o * C : (o + 1) * C]
        if i < 0:
            pixel[:] = value
        else:
            shown = line[i * C : (i + 1) * C]
            for c in range(C):
                pixel[c] = shown[c]


@jit.driver
def _backward_rows(dy, dx, rows, columns, OH, C, task, tasks):
    """Fill a task's rows of dx, counted over all images."""
    H = rows.starts.size - 1
    begin, end = share(dx.shape[0], task, tasks)
    for row in range(begin, end):
        n, h = row // H, row % H
        into = dx[row]
        first, stop = rows.starts[h], rows.starts[h + 1]
        if first == stop:
            into[:] = 0
        for k in range(first, stop):
            line = dy[n * OH + rows.shown[k]]
            run = line[columns.first * C : columns.stop * C]
            a = columns.begin * C
            b = a + run.size
            middle = into[a:b]
            if k == first:
                into[:a] = 0
                into[b:] = 0
                for i in range(run.size):
                    middle[i] = run[i]
            else:
                for i in range(run.size):
                    middle[i] += run[i]
            _add_ends(line, into, columns, C, 0, columns.first)
            _add_ends(line, into, columns, C, columns.stop, columns.source.size)


@jit.kernel
def _add_ends(line, into, columns, C, begin, end):
    for o in range(begin, end):
        i = columns.source[o]
        if i >= 0:
            pixel, shown = into[i * C : (i + 1) * C], line[o * C : (o + 1) * C]
            for c in range(C):
                pixel[c] += shown[c]


def border_forward(x, y, padding, mode, value):
    _, C, H, W = x.shape
    left, right, top, bottom = padding
    axes = axis(H, top, bottom, mode), axis(W, left, right, mode)
    arguments = _pixel_rows(x), _pixel_rows(y), x.dtype.type(value), *axes, H, C
    _forward_rows(*arguments, tasks(y.size))


def border_backward(dy, dx, padding, mode):
    _, C, H, W = dx.shape
    left, right, top, bottom = padding
    axes = axis(H, top, bottom, mode), axis(W, left, right, mode)
    arguments = _pixel_rows(dy), _pixel_rows(dx), *axes, dy.shape[2], C
    _backward_rows(*arguments, tasks(dx.size))
