"""What pooling and unpooling share on the GPU: four passes over windows, each thread with V channels of a pixel.

    maxima          y[o] = the largest of window o, and where it stood
    sums            y[o] = sum of x[p] / m over the positions p of window o
    from_winners    dx[p] = sum of dy[o] over the windows o whose winner is p
    from_windows    dx[p] = sum of dy[o] / m over the windows o that hold p

All are gathers: a thread writes its own pixel, and sums in row order. A pass knows its windows by three functions
of an axis, a tuple of numbers: window(o) -> first, stop, step; holding(p) -> first, stop; positions(o) -> how many
count. REGULAR are those of a kernel size.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import gpu, jit
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import grid, lanes, pixel, vectors
from nbprop.ops.flat import flat
from nbprop.ops.through_relu import relu_slope
from nbprop.ops.window import inside

__all__ = ["REGULAR", "Windows", "from_windows", "from_winners", "maxima", "regular", "sums"]

_THREADS = 256  # of a block, at most


class Windows(NamedTuple):
    """The functions of an axis: jit.scalar ones."""

    window: object
    holding: object
    positions: object


@jit.scalar
def _window(o, axis):
    size, _, K, S, P, D, _ = axis
    first, stop = inside(o, K, S, P, D, size)
    return first, stop, D


@jit.scalar
def _holding(p, axis):
    _, windows, K, S, P, D, _ = axis
    last, before = p + P, p + P - D * (K - 1) - 1  # the first window begins behind `before`
    first = 0 if before < 0 else np.int64(np.uint32(before) // np.uint32(S)) + 1
    return first, min(windows, np.int64(np.uint32(last) // np.uint32(S)) + 1)


@jit.scalar
def _positions(o, axis):
    size, _, K, S, P, _, padded = axis
    start = o * S - P
    stop = min(start + K, size + P)
    return stop - start if padded else min(stop, size) - max(start, 0)


REGULAR = Windows(_window, _holding, _positions)


def regular(plane, windows, kernel, stride, padding, dilation=(1, 1), padded=True):
    """Return the two axes of regular windows; `padded`: positions outside the image count, too.

    Numbers of 32 bits, as kernels take fewer registers.
    """
    axes = zip(plane, windows, kernel, stride, padding, dilation)
    return tuple((*map(np.int32, axis), bool(padded)) for axis in axes)


def maxima(windows, axes, x, y, indices):
    """Fill y and indices."""
    V = lanes(x.shape[1], x, y, indices)
    _run(_maxima(windows, V, x.dtype), V, y, x, indices, axes)


def sums(windows, axes, x, y, divisor, per_position):
    """Fill y; m is the divisor, or if 0 the positions of the window; `per_position`: or the windows that hold p."""
    V = lanes(x.shape[1], x, y)
    _run(_sums(windows, V, x.dtype, per_position), V, y, x, axes, np.int32(divisor))


def from_winners(windows, axes, dy, indices, y, dx):
    """Fill dx; dy is multiplied by ReLU's slope at y, unless y is None."""
    y, relu = (dy, False) if y is None else (y, True)
    V = lanes(dx.shape[1], dy, indices, y, dx)
    _run(_from_winners(windows, V, dx.dtype, relu), V, dx, dy, indices, y, axes)


def from_windows(windows, axes, dy, dx, divisor, per_position):
    """Fill dx; m as in `sums`."""
    V = lanes(dx.shape[1], dy, dx)
    _run(_from_windows(windows, V, dx.dtype, per_position), V, dx, dy, axes, np.int32(divisor))


def _run(kernel, V, out, *arguments):
    """Launch over the pixels of `out`."""
    N, C, H, W = out.shape
    if out.size:
        arrays = (flat(a) if isinstance(a, gpu.Array) else a for a in arguments)
        blocks, threads = grid(N * H, W * C // V)
        kernel[blocks, threads](flat(out), tuple(map(np.int32, out.shape)), *arrays)


def _bounds(dtype):
    """Return the threads of a block, and how many blocks a multiprocessor must hold: 80 or 128 registers a thread."""
    return _THREADS, 3 if dtype == np.float32 else 2


@functools.cache
def _maxima(windows, V, dtype):
    number, (get, put), window = gpu.from_dtype(dtype), vectors(V), windows.window

    @gpu.kernel(launch_bounds=_bounds(dtype))
    def maxima(y, shape, x, indices, axes):
        value, best, winner = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, np.int32)
        n, oh, ow, c, there = pixel(shape, V)
        if there:
            H, W, C = axes[0][0], axes[1][0], shape[1]
            h, h_stop, down = window(oh, axes[0])
            w_first, w_stop, right = window(ow, axes[1])
            for j in range(V):
                best[j] = -np.inf
                winner[j] = h * W + w_first
            while h < h_stop:
                w = w_first
                while w < w_stop:
                    get(x, ((n * H + h) * W + w) * C + c, value)
                    for j in range(V):
                        v, b = value[j], best[j]
                        if ((v > b) | (v != v)) & (b == b):  # the first NaN stays
                            best[j], winner[j] = v, h * W + w
                    w += right
                h += down
            at = ((n * shape[2] + oh) * shape[3] + ow) * C + c
            put(y, at, best)
            put(indices, at, winner)

    return maxima


@functools.cache
def _from_winners(windows, V, dtype, relu):
    number, (get, put), holding = gpu.from_dtype(dtype), vectors(V), windows.holding

    @gpu.kernel(launch_bounds=_bounds(dtype))
    def from_winners(dx, shape, dy, indices, y, axes):
        d, total, winner = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, np.int32)
        value = cuda.local.array(V, number)
        n, h, w, c, there = pixel(shape, V)
        if there:
            OH, OW, C = axes[0][1], axes[1][1], shape[1]
            top, bottom = holding(h, axes[0])
            left, right = holding(w, axes[1])
            for j in range(V):
                total[j] = 0
            for oh in range(top, bottom):
                for ow in range(left, right):
                    o = ((n * OH + oh) * OW + ow) * C + c
                    get(indices, o, winner)
                    get(dy, o, d)
                    if relu:
                        get(y, o, value)
                        for j in range(V):
                            d[j] *= relu_slope(value[j])
                    for j in range(V):
                        if winner[j] == h * shape[3] + w:
                            total[j] += d[j]
            put(dx, ((n * shape[2] + h) * shape[3] + w) * C + c, total)

    return from_winners


@functools.cache
def _sums(windows, V, dtype, per_position):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)
    window, holding, positions = windows

    @gpu.kernel(launch_bounds=_bounds(dtype))
    def sums(y, shape, x, axes, divisor):
        value, total = cuda.local.array(V, number), cuda.local.array(V, number)
        n, oh, ow, c, there = pixel(shape, V)
        if there:
            T, H, W, C = x.dtype.type, axes[0][0], axes[1][0], shape[1]
            top, bottom, _ = window(oh, axes[0])
            left, right, _ = window(ow, axes[1])
            share = T(1) / T(divisor if divisor else positions(oh, axes[0]) * positions(ow, axes[1]))
            for j in range(V):
                total[j] = 0
            for h in range(top, bottom):
                up, low = holding(h, axes[0])
                for w in range(left, right):
                    if per_position:
                        first, stop = holding(w, axes[1])
                        share = T(1) / T((low - up) * (stop - first))
                    get(x, ((n * H + h) * W + w) * C + c, value)
                    for j in range(V):
                        total[j] += value[j] * share
            put(y, ((n * shape[2] + oh) * shape[3] + ow) * C + c, total)

    return sums


@functools.cache
def _from_windows(windows, V, dtype, per_position):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)
    _, holding, positions = windows

    @gpu.kernel(launch_bounds=_bounds(dtype))
    def from_windows(dx, shape, dy, axes, divisor):
        d, total = cuda.local.array(V, number), cuda.local.array(V, number)
        n, h, w, c, there = pixel(shape, V)
        if there:
            T, OH, OW, C = dx.dtype.type, axes[0][1], axes[1][1], shape[1]
            top, bottom = holding(h, axes[0])
            left, right = holding(w, axes[1])
            for j in range(V):
                total[j] = 0
            for oh in range(top, bottom):
                for ow in range(left, right):
                    m = divisor if divisor else positions(oh, axes[0]) * positions(ow, axes[1])
                    if per_position:
                        m = (bottom - top) * (right - left)
                    share = T(1) / T(m)
                    get(dy, ((n * OH + oh) * OW + ow) * C + c, d)
                    for j in range(V):
                        total[j] += d[j] * share
            put(dx, ((n * shape[2] + h) * shape[3] + w) * C + c, total)

    return from_windows
