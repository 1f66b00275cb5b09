"""Borders on channels-last memory: rows of pixels are copied in one run, their ends pixel by pixel.

Kernels see images as (rows, W C). Forward tasks are rows of y. Backward tasks are rows of dx, which add up
the rows of dy that show them, in order: no two tasks write to one place.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from nbprop import jit, layout
from nbprop.ops.border.source import source
from nbprop.ops.flat import tasks


class Axis(NamedTuple):
    """One axis of a border.

    `source[o]` is the position of x at y's position o, or -1; positions first .. stop - 1 of y show x from
    `begin` on, one after another. `shown[starts[i] : starts[i + 1]]` are the positions of y that show x's i.
    """

    source: np.ndarray
    first: int
    stop: int
    begin: int
    shown: np.ndarray
    starts: np.ndarray


@functools.lru_cache(maxsize=256)
def _axis(size, before, after, mode):
    count = size + before + after
    sources = np.array([source.py_func(o, size, before, after, mode) for o in range(count)], np.int64)
    order = np.argsort(sources, kind="stable")
    constants = int(np.count_nonzero(sources < 0))
    shown = np.ascontiguousarray(order[constants:], np.int64)
    starts = np.searchsorted(sources[shown], np.arange(size + 1)).astype(np.int64)
    return Axis(sources, max(before, 0), min(before + size, count), max(-before, 0), shown, starts)


def _pixel_rows(x):
    """View an image batch (N, C, H, W) as (N H, W C)."""
    N, C, H, W = x.shape
    return layout.nhwc(x).reshape(N * H, W * C)


@jit.kernel
def _forward_rows(x, y, value, rows, columns, H, C, begin, end):
    """Fill rows begin .. end - 1 of y, counted over all images."""
    OH = rows.source.size
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
def _forward_tasks(x, y, value, rows, columns, H, C, count):
    for t in prange(count):
        begin, end = y.shape[0] * t // count, y.shape[0] * (t + 1) // count
        _forward_rows(x, y, value, rows, columns, H, C, begin, end)


@jit.kernel
def _backward_rows(dy, dx, rows, columns, OH, C, begin, end):
    """Fill rows begin .. end - 1 of dx, counted over all images."""
    H = rows.starts.size - 1
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


@jit.driver
def _backward_tasks(dy, dx, rows, columns, OH, C, count):
    for t in prange(count):
        begin, end = dx.shape[0] * t // count, dx.shape[0] * (t + 1) // count
        _backward_rows(dy, dx, rows, columns, OH, C, begin, end)


def border_forward(x, y, padding, mode, value):
    _, C, H, W = x.shape
    left, right, top, bottom = padding
    axes = _axis(H, top, bottom, mode), _axis(W, left, right, mode)
    arguments = _pixel_rows(x), _pixel_rows(y), x.dtype.type(value), *axes, H, C
    count = tasks(y.size)
    if count == 1:
        _forward_rows(*arguments, 0, len(arguments[1]))
    else:
        _forward_tasks(*arguments, count)


def border_backward(dy, dx, padding, mode):
    _, C, H, W = dx.shape
    left, right, top, bottom = padding
    axes = _axis(H, top, bottom, mode), _axis(W, left, right, mode)
    arguments = _pixel_rows(dy), _pixel_rows(dx), *axes, dy.shape[2], C
    count = tasks(dx.size)
    if count == 1:
        _backward_rows(*arguments, 0, len(arguments[1]))
    else:
        _backward_tasks(*arguments, count)
