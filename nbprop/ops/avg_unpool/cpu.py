"""Average unpooling on channels-last memory: the channels of one pixel are the lanes.

Forward tasks are rows of y, whose pixels gather from the windows that hold them; backward tasks are rows of
windows. No two tasks write one place, and each sum has one order.
"""

from nbprop import jit
from nbprop.ops import flat
from nbprop.ops.window import inside


@jit.kernel
def _add(run, share, out):
    for c in range(out.size):
        out[c] += run[c] * share


@jit.scalar
def _holding(p, K, S, P, windows):
    """Return first and stop of the windows that hold position p, along one axis."""
    return max(0, (p + P - K) // S + 1), min(windows, (p + P) // S + 1)


@jit.scalar
def _positions(o, K, S, P, size):
    """Return how many positions of window o lie in the padded plane, along one axis."""
    return min(o * S - P + K, size + P) - (o * S - P)


@jit.driver
def _forward_rows(x, y, planes, kernel, stride, padding, copy, task, tasks):
    """Fill a task's rows of y, counted over all images; planes = (H, W, OH, OW)."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW) = planes, kernel, stride, padding
    begin, end = flat.share(y.shape[0] // W, task, tasks)
    T = y.dtype.type
    for row in range(begin, end):
        n, h = row // H, row % H
        oh_first, oh_stop = _holding(h, KH, SH, PH, OH)
        y[row * W : (row + 1) * W] = 0
        for w in range(W):
            ow_first, ow_stop = _holding(w, KW, SW, PW, OW)
            out = y[row * W + w]
            count = (oh_stop - oh_first) * (ow_stop - ow_first)
            for oh in range(oh_first, oh_stop):
                rows = _positions(oh, KH, SH, PH, H)
                for ow in range(ow_first, ow_stop):
                    m = count if copy else rows * _positions(ow, KW, SW, PW, W)
                    _add(x[(n * OH + oh) * OW + ow], T(1) / T(m), out)


def avg_unpool2d_forward(x, y, kernel, stride, padding, copy):
    planes = y.shape[2:] + x.shape[2:]
    arrays = flat.rows(x), flat.rows(y), planes, kernel, stride, padding, copy
    _forward_rows(*arrays, flat.tasks(y.size))


@jit.driver
def _backward_rows(dy, dx, planes, kernel, stride, padding, copy, task, tasks):
    """Fill a task's rows of dx, counted over all images."""
    (H, W, OH, OW), (KH, KW), (SH, SW), (PH, PW) = planes, kernel, stride, padding
    begin, end = flat.share(dx.shape[0] // OW, task, tasks)
    T = dx.dtype.type
    for row in range(begin, end):
        n, oh = row // OH, row % OH
        h_first, h_stop = inside(oh, KH, SH, PH, 1, H)
        rows = _positions(oh, KH, SH, PH, H)
        dx[row * OW : (row + 1) * OW] = 0
        for ow in range(OW):
            w_first, w_stop = inside(ow, KW, SW, PW, 1, W)
            m = rows * _positions(ow, KW, SW, PW, W)
            out = dx[row * OW + ow]
            for h in range(h_first, h_stop):
                first, stop = _holding(h, KH, SH, PH, OH)
                for w in range(w_first, w_stop):
                    if copy:
                        left, right = _holding(w, KW, SW, PW, OW)
                        m = (stop - first) * (right - left)
                    _add(dy[(n * H + h) * W + w], T(1) / T(m), out)


def avg_unpool2d_backward(dy, dx, kernel, stride, padding, copy):
    planes = dy.shape[2:] + dx.shape[2:]
    arrays = flat.rows(dy), flat.rows(dx), planes, kernel, stride, padding, copy
    _backward_rows(*arrays, flat.tasks(dy.size))
