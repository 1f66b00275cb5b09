"""Softmax on the GPU: a line along the axis per block where it is contiguous, per thread where it is not.

Lines that lie across memory stand side by side, so that neighbouring threads read neighbouring elements. The
largest element and the sum are of one fixed tree per line: the same bits in every run.
"""

import functools

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import row_threads
from nbprop.ops.flat import lines
from nbprop.ops.vecmath import exp, log


def softmax_forward(x, y, axis):
    _run(_forward, False, axis, x, y)


def softmax_backward(y, dy, dx, axis):
    _run(_backward, False, axis, y, dy, dx)


def log_softmax_forward(x, y, axis):
    _run(_forward, True, axis, x, y)


def log_softmax_backward(y, dy, dx, axis):
    _run(_backward, True, axis, y, dy, dx)


def _run(make, logarithm, axis, *arrays):
    views = [lines(a, axis) for a in arrays]
    before, K, after = views[0].shape
    if not arrays[0].size:
        return
    if after > 1:
        make(logarithm, 1, gpu.THREADS, arrays[0].dtype)[gpu.blocks(before * after), gpu.THREADS](*views)
        return
    share = row_threads(K)
    make(logarithm, share, share, arrays[0].dtype)[min(before, 1 << 20), share](*views)


def _tree(combine, share, threads, dtype):
    """Make a total over the `share` threads of a line; one thread alone is its own total."""
    return _itself if share == 1 else gpu.reduction(combine, threads, dtype)


@gpu.device
def _itself(value):
    return value


@functools.cache
def _forward(logarithm, share, threads, dtype):
    highest_of, sum_of = (_tree(combine, share, threads, dtype) for combine in (gpu.larger, gpu.add))

    @gpu.kernel
    def forward(x, y):
        before, K, after = x.shape
        first = cuda.threadIdx.x % share
        for line in range(cuda.grid(1) // share, before * after, cuda.gridsize(1) // share):
            a, b = line // after, line % after
            highest = x[a, min(first, K - 1), b]
            for k in range(first + share, K, share):
                highest = gpu.larger(highest, x[a, k, b])
            highest = highest_of(highest)
            total = x.dtype.type(0)
            for k in range(first, K, share):
                total += exp(x[a, k, b] - highest)
            total = sum_of(total)
            log_total = log(total)
            for k in range(first, K, share):
                z = x[a, k, b] - highest
                y[a, k, b] = z - log_total if logarithm else exp(z) / total

    return forward


@functools.cache
def _backward(logarithm, share, threads, dtype):
    sum_of = _tree(gpu.add, share, threads, dtype)

    @gpu.kernel
    def backward(y, dy, dx):
        before, K, after = y.shape
        first = cuda.threadIdx.x % share
        for line in range(cuda.grid(1) // share, before * after, cuda.gridsize(1) // share):
            a, b = line // after, line % after
            total = y.dtype.type(0)
            for k in range(first, K, share):
                total += dy[a, k, b] if logarithm else dy[a, k, b] * y[a, k, b]
            total = sum_of(total)
            for k in range(first, K, share):
                p = exp(y[a, k, b]) if logarithm else y[a, k, b]
                dx[a, k, b] = dy[a, k, b] - p * total if logarithm else p * (dy[a, k, b] - total)

    return backward
