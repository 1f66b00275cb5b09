"""Layer norm on the GPU: a block per row, which after its first reading lies in the cache.

The weight's gradient is summed down the columns in two launches.
"""

import functools
import math
from types import SimpleNamespace

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_columns import add_parts, part, plan
from nbprop.ops.cuda_pixels import lanes, row_threads, vectors

_RESIDENT = 1024  # threads that a multiprocessor holds at least: 64 registers each
_BLOCK = 64  # rows that are summed up in the dtype of x


def workspace(rows, features, dtype):
    K = max(plan((rows, features, 1, 1), 1, V).size[3] for V in (1, 4))
    return SimpleNamespace(parts=gpu.empty((2, K, features), np.float64))


def layer_norm_forward(x, weight, bias, eps, mean, rstd, y):
    V = lanes(x.shape[1], x, weight, bias, y)
    if x.size:
        threads = row_threads(x.shape[1] // V)
        forward = _forward(V, threads, x.dtype)
        forward[len(x), threads](x.reshape(-1), weight, bias, eps, mean, rstd, y.reshape(-1))


def layer_norm_backward_input(dy, x, weight, mean, rstd, dx):
    V = lanes(x.shape[1], dy, x, weight, dx)
    if x.size:
        threads = row_threads(x.shape[1] // V)
        backward = _input(V, threads, x.dtype)
        backward[len(x), threads](dy.reshape(-1), x.reshape(-1), weight, mean, rstd, dx.reshape(-1))


def layer_norm_backward_weight(dy, x, mean, rstd, dw, db, work):
    R, F = x.shape
    V = lanes(F, dy, x)
    cut = plan((R, F, 1, 1), 1, V)
    if F:
        sums = _sums(V, cut.threads, cut.width, x.dtype)
        sums[cut.grid, cut.threads](dy.reshape(-1), x.reshape(-1), mean, rstd, work.parts, cut.size)
        for i, gradient in enumerate((dw, db)):
            add_parts(work.parts[i : i + 1, : cut.size[3]], gradient.reshape(1, 1, F))


@functools.cache
def _forward(V, threads, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)
    total_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel(launch_bounds=(threads, _RESIDENT // threads))
    def forward(x, weight, bias, eps, mean, rstd, y):
        value, w, b = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, number)
        T, F, r = x.dtype.type, np.int64(weight.size), np.int64(cuda.blockIdx.x)
        first = np.int64(cuda.threadIdx.x) * V
        head = x[r * F]  # deviations from any value of the row lose fewer digits than the values
        total = T(0)
        for f in range(first, F, threads * V):
            get(x, r * F + f, value)
            for j in range(V):
                total += value[j] - head
        centre = head + total_of(total) / F
        near = T(centre)
        total = T(0)
        for f in range(first, F, threads * V):
            get(x, r * F + f, value)
            for j in range(V):
                d = value[j] - near
                total += d * d
        low = near - centre  # the digits of the mean that x's dtype does not hold
        over = 1 / math.sqrt(max(total_of(total) / F - low * low, 0.0) + eps)
        scale, shift = T(over), T(low * over)
        for f in range(first, F, threads * V):
            get(x, r * F + f, value)
            get(weight, f, w)
            get(bias, f, b)
            for j in range(V):
                value[j] = w[j] * ((value[j] - near) * scale + shift) + b[j]
            put(y, r * F + f, value)
        if cuda.threadIdx.x == 0:
            mean[r], rstd[r] = centre, over

    return forward


@functools.cache
def _input(V, threads, dtype):
    number, (get, put) = gpu.from_dtype(dtype), vectors(V)
    total_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel(launch_bounds=(threads, _RESIDENT // threads))
    def backward_input(dy, x, weight, mean, rstd, dx):
        value, w, d = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, number)
        T, F, r = x.dtype.type, np.int64(weight.size), np.int64(cuda.blockIdx.x)
        first = np.int64(cuda.threadIdx.x) * V
        centre = T(mean[r])
        low = mean[r] - centre  # the digits of the mean that x's dtype does not hold
        total, product = T(0), T(0)
        for f in range(first, F, threads * V):
            get(dy, r * F + f, d)
            get(x, r * F + f, value)
            get(weight, f, w)
            for j in range(V):
                g = w[j] * d[j]
                total += g
                product += g * (value[j] - centre)
        whole = total_of(total)
        turn = -(total_of(product) - low * whole) * rstd[r] * rstd[r] * rstd[r] / F
        scale, slope, shift = T(rstd[r]), T(turn), T(-whole * rstd[r] / F - low * turn)
        for f in range(first, F, threads * V):
            get(dy, r * F + f, d)
            get(x, r * F + f, value)
            get(weight, f, w)
            for j in range(V):
                value[j] = w[j] * d[j] * scale + ((value[j] - centre) * slope + shift)
            put(dx, r * F + f, value)

    return backward_input


@functools.cache
def _sums(V, threads, width, dtype):
    """Fill parts with each chunk's sums of dy xhat and of dy."""
    number, (get, _), part_of = gpu.from_dtype(dtype), vectors(V), part(threads, width, V)
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)
    step = threads // width

    @gpu.kernel(launch_bounds=threads)
    def sums(dy, x, mean, rstd, parts, size):
        value, d = cuda.local.array(V, number), cuda.local.array(V, number)
        total, product = cuda.local.array(V, number), cuda.local.array(V, number)
        totals, products = cuda.local.array(V, np.float64), cuda.local.array(V, np.float64)
        T, F = x.dtype.type, size[2]
        _, chunk, f, r, stop = part_of(size)
        for j in range(V):
            totals[j] = products[j] = 0
        while f < F and r < stop:
            for j in range(V):
                total[j] = product[j] = 0
            end = min(stop, r + _BLOCK * step)
            while r < end:
                get(dy, r * F + f, d)
                get(x, r * F + f, value)
                centre, scale = T(mean[r]), T(rstd[r])
                shift = T((centre - mean[r]) * rstd[r])
                for j in range(V):
                    total[j] += d[j]
                    product[j] += d[j] * ((value[j] - centre) * scale + shift)
                r += step
            for j in range(V):
                totals[j] += total[j]
                products[j] += product[j]
        for j in range(V):
            whole, wholes = total_of(products[j]), total_of(totals[j])
            if cuda.threadIdx.x < width and f < F:
                parts[0, chunk, f + j], parts[1, chunk, f + j] = whole, wholes

    return sums
