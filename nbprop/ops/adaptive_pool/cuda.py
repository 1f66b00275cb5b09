"""Adaptive pooling on the GPU: the passes of pooling, over windows that an image is divided into.

Means of large windows, as in global pooling, are shared by threads of a block: each adds up every `share`-th
position, and a fixed tree their sums.
"""

import functools

import numpy as np

from nbprop import gpu, jit
from nbprop.gpu import cuda
from nbprop.ops.adaptive_pool.bounds import holding, window
from nbprop.ops.cuda_pixels import lanes, power_of_two, split, vectors
from nbprop.ops.cuda_windows import Windows, from_windows, from_winners, maxima, sums
from nbprop.ops.flat import flat

_POSITIONS = 8  # of a window that a thread adds up before others help
_COLUMNS = 8  # groups of channels that a block has side by side at least


@jit.scalar
def _window(o, axis):
    first, stop = window(o, axis[0], axis[1])
    return first, stop, 1


@jit.scalar
def _holding(p, axis):
    return holding(p, axis[0], axis[1])


@jit.scalar
def _positions(o, axis):
    first, stop = window(o, axis[0], axis[1])
    return stop - first


_ADAPTIVE = Windows(_window, _holding, _positions)


def _axes(x, y):
    return tuple(tuple(map(np.int32, axis)) for axis in zip(x.shape[2:], y.shape[2:]))


def adaptive_avg_pool2d_forward(x, y):
    N, C, OH, OW = y.shape
    if not y.size:
        return
    area = -(-x.shape[2] // OH) * -(-x.shape[3] // OW)
    share = power_of_two(area // _POSITIONS, max(1, gpu.THREADS // _COLUMNS))
    if share == 1:
        sums(_ADAPTIVE, _axes(x, y), x, y, 0, False)
        return
    V, width = lanes(C, x, y), gpu.THREADS // share
    means = _means(V, gpu.THREADS, width, x.dtype)
    means[N * OH * OW * -(-(C // V) // width), gpu.THREADS](flat(x), flat(y), C, _axes(x, y))


def adaptive_avg_pool2d_backward(dy, dx):
    from_windows(_ADAPTIVE, _axes(dx, dy), dy, dx, 0, False)


def adaptive_max_pool2d_forward(x, y, indices):
    maxima(_ADAPTIVE, _axes(x, y), x, y, indices)


def adaptive_max_pool2d_backward(dy, indices, dx):
    from_winners(_ADAPTIVE, _axes(dx, dy), dy, indices, None, dx)


@functools.cache
def _means(V, threads, width, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)
    total_of = gpu.reduction(gpu.add, threads, dtype, width)

    @gpu.kernel(launch_bounds=threads)
    def means(x, y, C, axes):
        value, total = cuda.local.array(V, number), cuda.local.array(V, number)
        (H, OH), (W, OW) = axes
        t = cuda.threadIdx.x
        o, strip = split(cuda.blockIdx.x, (C // V + width - 1) // width)
        line, ow = split(o, OW)
        n, oh = split(line, OH)
        c = (strip * width + t % width) * V
        (top, bottom), (left, right) = window(oh, H, OH), window(ow, W, OW)
        area = (bottom - top) * (right - left)
        for j in range(V):
            total[j] = 0
        if c < C:
            for i in range(t // width, area, threads // width):
                down, across = split(i, right - left)
                get(x, ((n * H + top + down) * W + left + across) * C + c, value)
                for j in range(V):
                    total[j] += value[j]
        for j in range(V):
            total[j] = total_of(total[j]) / x.dtype.type(area)
        if t < width and c < C:
            put(y, o * C + c, total)

    return means
