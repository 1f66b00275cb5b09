"""Resizing on the GPU: a thread per pixel and four channels, backward a sum over the pixels that it is part of.

`rows` and `columns` are (positions, weight) in GPU memory, as `taps.on_gpu` makes them: positions holds first,
second, begin and end of `Taps`, one after another.
"""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import grid, lanes, pixel, vectors
from nbprop.ops.flat import flat


def upsample_forward(x, y, rows, columns, linear, work):
    N, C, OH, OW = y.shape
    if y.size:
        V = lanes(C, x, y)
        blocks, threads = grid(N * OH, OW * C // V)
        forward = _forward(V, bool(linear), x.dtype)
        forward[blocks, threads](flat(x), flat(y), _int32(x.shape), _int32(y.shape), *rows, *columns)


def upsample_backward(dy, dx, rows, columns, linear, work):
    N, C, H, W = dx.shape
    if dx.size:
        V = lanes(C, dy, dx)
        blocks, threads = grid(N * H, W * C // V)
        backward = _backward(V, dx.dtype)
        backward[blocks, threads](flat(dy), flat(dx), _int32(dy.shape), _int32(dx.shape), *rows, *columns)


def _int32(numbers):
    return tuple(map(np.int32, numbers))


@functools.cache
def _forward(V, linear, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)

    @gpu.kernel
    def forward(x, y, x_shape, y_shape, rows, row_weights, columns, column_weights):
        upper, lower = cuda.local.array(V, number), cuda.local.array(V, number)
        right, low_right = cuda.local.array(V, number), cuda.local.array(V, number)
        _, C, H, W = x_shape
        _, _, OH, OW = y_shape
        n, oh, ow, c, there = pixel(y_shape, V)
        if there:
            base, h, w = n * H, rows[oh], columns[ow]
            get(x, ((base + h) * W + w) * C + c, upper)
            if linear:
                h2, w2, v, u = rows[OH + oh], columns[OW + ow], row_weights[oh], column_weights[ow]
                get(x, ((base + h) * W + w2) * C + c, right)
                get(x, ((base + h2) * W + w) * C + c, lower)
                get(x, ((base + h2) * W + w2) * C + c, low_right)
                one = x.dtype.type(1)
                for j in range(V):
                    upper[j] = ((one - v) * ((one - u) * upper[j] + u * right[j])
                                + v * ((one - u) * lower[j] + u * low_right[j]))  # fmt: skip
            put(y, ((n * OH + oh) * OW + ow) * C + c, upper)

    return forward


@gpu.device
def _share(positions, weights, o, i):
    """Return the weight of x's position i in y's position o; at the far edge both taps are i."""
    zero, one = weights.dtype.type(0), weights.dtype.type(1)
    return ((one - weights[o] if positions[o] == i else zero)
            + (weights[o] if positions[weights.size + o] == i else zero))


@functools.cache
def _backward(V, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)

    @gpu.kernel
    def backward(dy, dx, y_shape, x_shape, rows, row_weights, columns, column_weights):
        d, total = cuda.local.array(V, number), cuda.local.array(V, number)
        _, C, OH, OW = y_shape
        _, _, H, W = x_shape
        n, h, w, c, there = pixel(x_shape, V)
        if there:
            for j in range(V):
                total[j] = 0
            for oh in range(rows[2 * OH + h], rows[2 * OH + H + h]):
                v = _share(rows, row_weights, oh, h)
                for ow in range(columns[2 * OW + w], columns[2 * OW + W + w]):
                    share = v * _share(columns, column_weights, ow, w)
                    get(dy, ((n * OH + oh) * OW + ow) * C + c, d)
                    for j in range(V):
                        total[j] += d[j] * share
            put(dx, ((n * H + h) * W + w) * C + c, total)

    return backward
