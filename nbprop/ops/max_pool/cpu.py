"""Max pooling on channels-last memory: the channels of one pixel are the lanes.

Kernels see x and y as one run of memory, C channels after C channels. Four positions of a window are compared at a
time; a position outside the image is never visited. Forward tasks are rows of windows. Backward has two forms:

    give      windows that do not overlap (stride >= reach) write all their positions, once; tasks are rows of
              windows
    scatter   windows that do: dx[winner] += dy, window after window in row order; tasks are
              images, or blocks of channels of them, so that no two write to one place
"""

import numpy as np

from nbprop import jit
from nbprop.ops import simd
from nbprop.ops.flat import flat, flat_or_none, rows, share, tasks
from nbprop.ops.max_pool.four import best_of_four, give_to_four
from nbprop.ops.through_relu import through_relu
from nbprop.ops.window import alike, at_last, following, inside
from nbprop.tape import launches

_LANES = 16  # channels of a block, where there are fewer images than threads


@jit.driver
def _forward_rows(x, y, indices, C, planes, kernel, stride, padding, dilation, rows, task, tasks):
    """Pool a task's rows of windows, counted over all images; planes = (H, W, OH, OW)."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW), (DH, DW) = planes, kernel, stride, padding, dilation
    begin, end = share(rows, task, tasks)
    for row in range(begin, end):
        n, oh = row // OH, row % OH
        base = n * H * W
        h_first, h_stop = inside(oh, KH, SH, PH, DH, H)
        ow = 0
        while ow < OW:
            windows = alike(ow, h_first, h_stop, planes, kernel, stride, padding, dilation)
            w_first, w_stop = inside(ow, KW, SW, PW, DW, W)
            h, w = h_first, w_first
            more = False
            while True:
                i0 = h * W + w
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                i1 = h * W + w
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                i2 = h * W + w
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                i3 = h * W + w
                best_of_four(x, (base + i0) * C, (base + i1) * C, (base + i2) * C, (base + i3) * C, i0, i1, i2, i3,
                             y, indices, (row * OW + ow) * C, C, more, windows, SW)
                if at_last(h, w, DH, DW, h_stop, w_stop):
                    break
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                more = True
            ow += windows


@jit.driver
def _give_rows(dy, indices, y, dx, C, planes, kernel, stride, padding, dilation, rows, task, tasks):
    """Backward of a task's rows of windows that do not overlap: each row owns a band of dx's rows."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW), (DH, DW) = planes, kernel, stride, padding, dilation
    begin, end = share(rows, task, tasks)
    gaps = SH > KH or SW > KW or DH > 1 or DW > 1 or OH * SH - PH < H or OW * SW - PW < W
    for row in range(begin, end):
        n, oh = row // OH, row % OH
        if gaps:
            top = oh * SH - PH if oh else 0
            bottom = (oh + 1) * SH - PH if oh + 1 < OH else H
            simd.clear(dx, (n * H + top) * W * C, (bottom - top) * W * C)
        base = n * H * W
        h_first, h_stop = inside(oh, KH, SH, PH, DH, H)
        ow = 0
        while ow < OW:
            windows = alike(ow, h_first, h_stop, planes, kernel, stride, padding, dilation)
            w_first, w_stop = inside(ow, KW, SW, PW, DW, W)
            h, w = h_first, w_first
            while True:
                i0 = h * W + w
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                i1 = h * W + w
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                i2 = h * W + w
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
                i3 = h * W + w
                give_to_four(dy, indices, y, (row * OW + ow) * C, dx, (base + i0) * C, (base + i1) * C, (base + i2) * C,
                             (base + i3) * C, i0, i1, i2, i3, C, windows, SW)
                if at_last(h, w, DH, DW, h_stop, w_stop):
                    break
                h, w = following(h, w, DH, DW, h_stop, w_first, w_stop)
            ow += windows


@jit.driver
def _scatter_blocks(dy, indices, y, dx, planes, width, task, tasks):
    """Backward of a task's blocks, each `width` channels of one image, whatever the windows."""
    H, W, OH, OW = planes
    C = dx.shape[1]
    blocks = (C + width - 1) // width
    begin, end = share(dx.shape[0] // (H * W) * blocks, task, tasks)
    for block in range(begin, end):
        n, first = block // blocks, block % blocks * width
        last = min(first + width, C)
        base = n * H * W
        dx[base : base + H * W, first:last] = 0
        for o in range(n * OH * OW, (n + 1) * OH * OW):
            for c in range(first, last):
                p = np.uintp(base + indices[o, c])  # unsigned: a signed index is tested for being negative
                dx[p, c] += through_relu(dy, y, (o, c))


@launches
def max_pool2d_forward(x, y, indices, kernel, stride, padding, dilation):
    N, C, OH, _ = y.shape
    arrays, planes = (flat(x), flat(y), flat(indices), C), x.shape[2:] + y.shape[2:]
    threads = tasks(x.size)
    _forward_rows(*arrays, planes, kernel, stride, padding, dilation, N * OH, threads)


@launches
def max_pool2d_backward(dy, indices, y, dx, kernel, stride, padding, dilation):
    (KH, KW), (SH, SW), (DH, DW) = kernel, stride, dilation
    planes = dx.shape[2:] + dy.shape[2:]
    N, C, OH, _ = dy.shape
    threads = tasks(dx.size)
    if SH > DH * (KH - 1) and SW > DW * (KW - 1):  # windows lie apart
        arrays = flat(dy), flat(indices), flat_or_none(y), flat(dx), C
        _give_rows(*arrays, planes, kernel, stride, padding, dilation, N * OH, threads)
        return
    arrays = rows(dy), rows(indices), None if y is None else rows(y), rows(dx)
    width = max(C, 1) if threads <= N else _LANES
    _scatter_blocks(*arrays, planes, width, threads)
