"""Insertion of zeros on channels-last memory: kernels see images as (rows, W, C), and tasks are rows."""

from nbprop import jit, layout
from nbprop.ops.flat import share, tasks


def _rows(x):
    """View an image batch (N, C, H, W) as (N H, W, C)."""
    N, C, H, W = x.shape
    return layout.nhwc(x).reshape(N * H, W, C)


@jit.driver
def _insert_rows(dy, delta, OH, height, stride, border, task, tasks):
    """Fill a task's rows of delta, counted over images of `height` rows."""
    (SH, SW), (BH, BW) = stride, border
    begin, end = share(delta.shape[0], task, tasks)
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
def _pick_rows(ddelta, ddy, OH, height, stride, border, task, tasks):
    """Fill a task's rows of ddy, counted over images of OH rows."""
    (SH, SW), (BH, BW) = stride, border
    begin, end = share(ddy.shape[0], task, tasks)
    for row in range(begin, end):
        line, into = ddelta[row // OH * height + BH + row % OH * SH], ddy[row]
        for ow in range(into.shape[0]):
            pixel, d = into[ow], line[BW + ow * SW]
            for o in range(d.size):
                pixel[o] = d[o]


def dilated_delta_forward(dy, delta, stride, border):
    arguments = _rows(dy), _rows(delta), dy.shape[2], delta.shape[2], stride, border
    _insert_rows(*arguments, tasks(delta.size))


def dilated_delta_backward(ddelta, ddy, stride, border):
    arguments = _rows(ddelta), _rows(ddy), ddy.shape[2], ddelta.shape[2], stride, border
    _pick_rows(*arguments, tasks(ddy.size))
