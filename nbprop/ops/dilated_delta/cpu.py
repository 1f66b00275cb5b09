"""Insertion of zeros on channels-last memory: kernels see images as (rows, W, C), and tasks are rows."""

from numba import prange

from nbprop import jit, layout
from nbprop.ops.flat import tasks


def _rows(x):
    """View an image batch (N, C, H, W) as (N H, W, C)."""
    N, C, H, W = x.shape
    return layout.nhwc(x).reshape(N * H, W, C)


@jit.kernel
def _insert_rows(dy, delta, OH, height, stride, border, begin, end):
    """Fill rows begin .. end - 1 of delta, counted over images of `height` rows."""
    (SH, SW), (BH, BW) = stride, border
    for row in range(begin, end):
        into = delta[row]
        into[:] = 0
        below = row % height - BH
        oh = below // SH
        if below % SH or oh < 0 or oh >= OH:
            continue
        line = dy[row // height * OH + oh]
        for ow in range(line.shape[0]):
            pixel, d = into[BW + ow * SW], line[ow]
            for o in range(d.size):
                pixel[o] = d[o]


@jit.driver
def _insert_tasks(dy, delta, OH, height, stride, border, count):
    for t in prange(0, count):
        begin, end = delta.shape[0] * t // count, delta.shape[0] * (t + 1) // count
        _insert_rows(dy, delta, OH, height, stride, border, begin, end)


@jit.kernel
def _pick_rows(ddelta, ddy, OH, height, stride, border, begin, end):
    """Fill rows begin .. end - 1 of ddy, counted over images of OH rows."""
    (SH, SW), (BH, BW) = stride, border
    for row in range(begin, end):
        line, into = ddelta[row // OH * height + BH + row % OH * SH], ddy[row]
        for ow in range(into.shape[0]):
            pixel, d = into[ow], line[BW + ow * SW]
            for o in range(d.size):
                pixel[o] = d[o]


@jit.driver
def _pick_tasks(ddelta, ddy, OH, height, stride, border, count):
    for t in prange(0, count):
        begin, end = ddy.shape[0] * t // count, ddy.shape[0] * (t + 1) // count
        _pick_rows(ddelta, ddy, OH, height, stride, border, begin, end)


def dilated_delta_forward(dy, delta, stride, border):
    arguments = _rows(dy), _rows(delta), dy.shape[2], delta.shape[2], stride, border
    count = tasks(delta.size)
    if count == 1:
        _insert_rows(*arguments, 0, len(arguments[1]))
    else:
        _insert_tasks(*arguments, count)


def dilated_delta_backward(ddelta, ddy, stride, border):
    arguments = _rows(ddelta), _rows(ddy), ddy.shape[2], ddelta.shape[2], stride, border
    count = tasks(ddy.size)
    if count == 1:
        _pick_rows(*arguments, 0, len(arguments[1]))
    else:
        _pick_tasks(*arguments, count)
