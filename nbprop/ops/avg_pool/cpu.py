"""Average pooling on channels-last memory: the channels of one pixel are the lanes.

Kernels see x and y as (pixels, channels) and take four positions of a window at a time. Forward tasks are
rows of windows. Backward has two forms:

    give      windows that do not overlap (stride >= kernel) write their share to all their positions, once
    gather    each pixel of dx adds up the windows that hold it, in row order: no two tasks write one place
"""

from nbprop import jit
from nbprop.ops import flat
from nbprop.ops.window import alike, at_last, covering, following, inside
from nbprop.tape import launches


@jit.scalar
def _positions(o, K, S, P, size, count_include_pad):
    # Positions of window o along one axis that count; with ceil_mode it may hang over the padding.
    start = o * S - P
    stop = min(start + K, size + P)
    return stop - start if count_include_pad else min(stop, size) - max(start, 0)


@jit.kernel
def _add_four(x, y, o, p0, p1, p2, p3, count, m, more, windows, step):
    """Set y[o] to the sum of the first `count` of pixels p0 .. p3, over m; `more`: and of what y[o] holds.

    And so for as many windows as there are, each `step` pixels after the last.
    """
    zero = x.dtype.type(0)
    divisor = x.dtype.type(m)
    for i in range(windows):
        for c in range(x.shape[1]):
            total = y[o + i, c] if more else zero
            total += x[p0 + i * step, c]
            total += x[p1 + i * step, c] if count > 1 else zero
            total += x[p2 + i * step, c] if count > 2 else zero
            total += x[p3 + i * step, c] if count > 3 else zero
            y[o + i, c] = total / divisor


@jit.driver
def _forward_rows(x, y, planes, kernel, stride, padding, count_include_pad, divisor, task, tasks):
    """Pool a task's rows of windows, counted over all images; planes = (H, W, OH, OW)."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW) = planes, kernel, stride, padding
    begin, end = flat.share(y.shape[0] // OW, task, tasks)
    for row in range(begin, end):
        n, oh = row // OH, row % OH
        h_first, h_stop = inside(oh, KH, SH, PH, 1, H)
        rows = _positions(oh, KH, SH, PH, H, count_include_pad)
        ow = 0
        while ow < OW:
            windows = alike(ow, h_first, h_stop, planes, kernel, stride, padding, (1, 1))
            w_first, w_stop = inside(ow, KW, SW, PW, 1, W)
            m = divisor if divisor else rows * _positions(ow, KW, SW, PW, W, count_include_pad)
            left = (h_stop - h_first) * (w_stop - w_first)
            h, w = n * H + h_first, w_first
            stop = n * H + h_stop
            more = False
            while left > 0:
                p0 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                p1 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                p2 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                p3 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                _add_four(x, y, row * OW + ow, p0, p1, p2, p3, left, m if left <= 4 else 1, more, windows, SW)
                left -= 4
                more = True
            ow += windows


@jit.kernel
def _give_to_four(dy, dx, o, p0, p1, p2, p3, m, windows, step):
    """Write dy[o] / m to four pixels; one may come twice, as it gets the same twice. And so for all `windows`."""
    divisor = dx.dtype.type(m)
    for i in range(windows):
        for c in range(dx.shape[1]):
            share = dy[o + i, c] / divisor
            dx[p0 + i * step, c] = share
            dx[p1 + i * step, c] = share
            dx[p2 + i * step, c] = share
            dx[p3 + i * step, c] = share


@jit.driver
def _give_rows(dy, dx, planes, kernel, stride, padding, count_include_pad, divisor, task, tasks):
    """Backward of a task's rows of windows that do not overlap: each row owns a band of dx's rows."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW) = planes, kernel, stride, padding
    begin, end = flat.share(dy.shape[0] // OW, task, tasks)
    gaps = SH > KH or SW > KW or OH * SH - PH < H or OW * SW - PW < W
    for row in range(begin, end):
        n, oh = row // OH, row % OH
        if gaps:
            top = oh * SH - PH if oh else 0
            bottom = (oh + 1) * SH - PH if oh + 1 < OH else H
            dx[(n * H + top) * W : (n * H + bottom) * W] = 0
        h_first, h_stop = inside(oh, KH, SH, PH, 1, H)
        rows = _positions(oh, KH, SH, PH, H, count_include_pad)
        ow = 0
        while ow < OW:
            windows = alike(ow, h_first, h_stop, planes, kernel, stride, padding, (1, 1))
            w_first, w_stop = inside(ow, KW, SW, PW, 1, W)
            m = divisor if divisor else rows * _positions(ow, KW, SW, PW, W, count_include_pad)
            h, w = n * H + h_first, w_first
            stop = n * H + h_stop
            while True:
                p0 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                p1 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                p2 = h * W + w
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
                p3 = h * W + w
                _give_to_four(dy, dx, row * OW + ow, p0, p1, p2, p3, m, windows, SW)
                if at_last(h, w, 1, 1, stop, w_stop):
                    break
                h, w = following(h, w, 1, 1, stop, w_first, w_stop)
            ow += windows


@jit.kernel
def _add_share(dy, dx, p, o, m, more):
    """Set dx[p] to dy[o] / m; `more`: on top of what dx[p] holds."""
    divisor = dx.dtype.type(m)
    zero = dx.dtype.type(0)
    for c in range(dx.shape[1]):
        dx[p, c] = (dx[p, c] if more else zero) + dy[o, c] / divisor


@jit.driver
def _gather_rows(dy, dx, planes, kernel, stride, padding, count_include_pad, divisor, task, tasks):
    """Backward of a task's rows of dx, whatever the windows."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW) = planes, kernel, stride, padding
    begin, end = flat.share(dx.shape[0] // W, task, tasks)
    for row in range(begin, end):
        n, h = row // H, row % H
        oh_first, oh_stop = covering(h, KH, SH, PH, OH, 0, 0)
        ow_first, ow_stop = 0, 0
        for w in range(W):
            ow_first, ow_stop = covering(w, KW, SW, PW, OW, ow_first, ow_stop)
            more = False
            for oh in range(oh_first, oh_stop):
                rows = _positions(oh, KH, SH, PH, H, count_include_pad)
                for ow in range(ow_first, ow_stop):
                    m = divisor if divisor else rows * _positions(ow, KW, SW, PW, W, count_include_pad)
                    _add_share(dy, dx, row * W + w, (n * OH + oh) * OW + ow, m, more)
                    more = True
            if not more:
                dx[row * W + w] = 0


@launches
def avg_pool2d_forward(x, y, kernel, stride, padding, count_include_pad, divisor):
    windows = x.shape[2:] + y.shape[2:], kernel, stride, padding, count_include_pad, divisor
    _forward_rows(flat.rows(x), flat.rows(y), *windows, flat.tasks(x.size))


@launches
def avg_pool2d_backward(dy, dx, kernel, stride, padding, count_include_pad, divisor):
    apart = all(s >= k for k, s in zip(kernel, stride))
    backward = _give_rows if apart else _gather_rows
    windows = dx.shape[2:] + dy.shape[2:], kernel, stride, padding, count_include_pad, divisor
    backward(flat.rows(dy), flat.rows(dx), *windows, flat.tasks(dx.size))
