"""Windows as columns on channels-last memory: lines of one channel, sixteen channels at a time.

A line columns[n, c, kh, kw, oh] is contiguous, and reads every SW-th pixel of one row of x: neighbouring
channels find those pixels in cache. im2col's tasks are blocks of channels, col2im's are rows of x, so that no
two write to one place.
"""

from nbprop import jit, layout
from nbprop.ops.flat import share, tasks

_BLOCK = 16  # channels: a cache line of float32


@jit.scalar
def _inside(k, D, S, P, size, count):
    # Windows first .. stop - 1 of `count` have their tap k inside the image.
    off = k * D - P
    first = 0 if off >= 0 else (S - 1 - off) // S
    stop = min(count, (size - 1 - off) // S + 1 if off < size else 0)
    return min(first, count), max(stop, min(first, count)), off


@jit.driver
def _im2col_blocks(x, columns, g, task, tasks):
    """Fill a task's blocks of channels; x (N, H, W, C), columns (N, C, KH, KW, OH, OW)."""
    N, H, W, C = x.shape
    blocks = (C + _BLOCK - 1) // _BLOCK
    begin, end = share(N * blocks, task, tasks)
    for block in range(begin, end):
        n, c0 = block // blocks, block % blocks * _BLOCK
        for kh in range(g.KH):
            for kw in range(g.KW):
                first, stop, off = _inside(kw, g.DW, g.SW, g.PW, W, g.OW)
                for oh in range(g.OH):
                    h = oh * g.SH + kh * g.DH - g.PH
                    for c in range(c0, min(c0 + _BLOCK, C)):
                        line = columns[n, c, kh, kw, oh]
                        if h < 0 or h >= H:
                            line[:] = 0
                            continue
                        row = x[n, h]
                        line[:first] = 0
                        for ow in range(first, stop):
                            line[ow] = row[ow * g.SW + off, c]
                        line[stop:] = 0


@jit.driver
def _col2im_rows(columns, x, g, task, tasks):
    """Fill a task's rows of x, counted over all images."""
    N, H, W, C = x.shape
    begin, end = share(N * H, task, tasks)
    for index in range(begin, end):
        n, h = index // H, index % H
        row = x[n, h]
        row[:] = 0
        for kh in range(g.KH):
            from_top = h + g.PH - kh * g.DH
            oh = from_top // g.SH
            if from_top % g.SH or oh < 0 or oh >= g.OH:
                continue
            for kw in range(g.KW):
                first, stop, off = _inside(kw, g.DW, g.SW, g.PW, W, g.OW)
                for c in range(C):
                    line = columns[n, c, kh, kw, oh]
                    for ow in range(first, stop):
                        row[ow * g.SW + off, c] += line[ow]


def im2col(x, columns, g):
    images, lines = _views(x, columns, g)
    _im2col_blocks(images, lines, g, tasks(columns.size))


def col2im(columns, x, g):
    images, lines = _views(x, columns, g)
    _col2im_rows(lines, images, g, tasks(columns.size))


def _views(x, columns, g):
    N, C, _, _ = x.shape
    return layout.nhwc(x), columns.reshape(N, C, g.KH, g.KW, g.OH, g.OW)
