"""Softmax a line at a time: vectorised along the axis that is contiguous in memory, scalar along another.

A line stays in the first-level cache from its first exponential to its last product.
"""

from nbprop import jit
from nbprop.ops.exponentials import exponentials
from nbprop.ops.flat import lines, share, tasks
from nbprop.ops.run_sum import run_dot, run_sum
from nbprop.ops.vecmath import exp, log


@jit.kernel
def _softmax_row(x, y):
    _, total = exponentials(x, y)
    for k in range(y.size):
        y[k] /= total


@jit.kernel
def _log_softmax_row(x, y):
    highest, total = exponentials(x, y)
    log_total = log(total)
    for k in range(y.size):
        y[k] = (x[k] - highest) - log_total


@jit.kernel
def _softmax_backward_row(y, dy, dx):
    mean = run_dot(y, dy)
    for k in range(y.size):
        dx[k] = y[k] * (dy[k] - mean)


@jit.kernel
def _log_softmax_backward_row(y, dy, dx):
    total = run_sum(dy)
    for k in range(y.size):
        dx[k] = dy[k] - exp(y[k]) * total


def _forward(row):
    @jit.driver
    def forward(x, y, task, tasks):
        begin, end = share(x.size // x.shape[1], task, tasks)
        for r in range(begin, end):
            if x.ndim == 2:
                row(x[r], y[r])
            else:
                before, after = r // x.shape[2], r % x.shape[2]
                row(x[before, :, after], y[before, :, after])

    return forward


def _backward(row):
    @jit.driver
    def backward(y, dy, dx, task, tasks):
        begin, end = share(y.size // y.shape[1], task, tasks)
        for r in range(begin, end):
            if y.ndim == 2:
                row(y[r], dy[r], dx[r])
            else:
                before, after = r // y.shape[2], r % y.shape[2]
                row(y[before, :, after], dy[before, :, after], dx[before, :, after])

    return backward


_softmax = _forward(_softmax_row)
_softmax_backward = _backward(_softmax_backward_row)
_log_softmax = _forward(_log_softmax_row)
_log_softmax_backward = _backward(_log_softmax_backward_row)


def softmax_forward(x, y, axis):
    _run(_softmax, axis, x, y)


def softmax_backward(y, dy, dx, axis):
    _run(_softmax_backward, axis, y, dy, dx)


def log_softmax_forward(x, y, axis):
    _run(_log_softmax, axis, x, y)


def log_softmax_backward(y, dy, dx, axis):
    _run(_log_softmax_backward, axis, y, dy, dx)


def _run(kernel, axis, *arrays):
    size = arrays[0].size
    if size == 0:
        return
    views = [lines(a, axis) for a in arrays]
    before, K, after = views[0].shape
    if after == 1:
        views = [v.reshape(before, K) for v in views]
    kernel(*views, tasks(size))
