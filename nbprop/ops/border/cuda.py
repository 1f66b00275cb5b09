"""Borders on the GPU: a thread per pixel and four channels; backward it adds up the positions that show it."""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.border.axis import axis
from nbprop.ops.border.source import source
from nbprop.ops.cuda_pixels import grid, lanes, pixel, vectors
from nbprop.ops.flat import flat


def border_forward(x, y, padding, mode, value):
    N, C, OH, OW = y.shape
    if y.size:
        V = lanes(C, x, y)
        blocks, threads = grid(N * OH, OW * C // V)
        forward = _forward(V, x.dtype)
        forward[blocks, threads](flat(x), flat(y), _int32(x.shape), _int32(y.shape), _int32(padding), mode, value)


def border_backward(dy, dx, padding, mode):
    N, C, H, W = dx.shape
    left, right, top, bottom = padding
    if dx.size:
        V = lanes(C, dy, dx)
        blocks, threads = grid(N * H, W * C // V)
        tables = *_shown(H, top, bottom, mode), *_shown(W, left, right, mode)
        backward = _backward(V, dx.dtype)
        backward[blocks, threads](flat(dy), flat(dx), _int32(dy.shape), _int32(dx.shape), *tables)


def _int32(numbers):
    return tuple(map(np.int32, numbers))


@functools.lru_cache(maxsize=256)
def _shown(size, before, after, mode):
    """Return the two tables of `Axis` that say where each position of x is shown."""
    table = axis(size, before, after, mode)
    return gpu.to_device(table.shown.astype(np.int32)), gpu.to_device(table.starts.astype(np.int32))


@functools.cache
def _forward(V, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)

    @gpu.kernel
    def forward(x, y, x_shape, y_shape, padding, mode, value):
        pixels = cuda.local.array(V, number)
        _, C, H, W = x_shape
        left, right, top, bottom = padding
        n, oh, ow, c, there = pixel(y_shape, V)
        if there:
            h, w = source(oh, H, top, bottom, mode), source(ow, W, left, right, mode)
            for j in range(V):
                pixels[j] = value
            if h >= 0 and w >= 0:
                get(x, ((n * H + h) * W + w) * C + c, pixels)
            put(y, ((n * y_shape[2] + oh) * y_shape[3] + ow) * C + c, pixels)

    return forward


@functools.cache
def _backward(V, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)

    @gpu.kernel
    def backward(dy, dx, y_shape, x_shape, rows, row_starts, columns, column_starts):
        d, total = cuda.local.array(V, number), cuda.local.array(V, number)
        _, C, OH, OW = y_shape
        n, h, w, c, there = pixel(x_shape, V)
        if there:
            for j in range(V):
                total[j] = 0
            for i in range(row_starts[h], row_starts[h + 1]):
                line = n * OH + rows[i]
                for k in range(column_starts[w], column_starts[w + 1]):
                    get(dy, (line * OW + columns[k]) * C + c, d)
                    for j in range(V):
                        total[j] += d[j]
            put(dx, ((n * x_shape[2] + h) * x_shape[3] + w) * C + c, total)

    return backward
