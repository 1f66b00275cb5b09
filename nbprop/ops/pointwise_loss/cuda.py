"""Element-wise losses on the GPU: value and gradient in one pass; a block sums its chunk in float64."""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.flat import flat


def loss_sums(pair, parameters, y, target, scale, partial, dy):
    if partial.size:
        chunk = -(-y.size // partial.size)
        _sums(pair, gpu.THREADS)[partial.size, gpu.THREADS](
            parameters, flat(y), flat(target), y.dtype.type(scale), partial, flat(dy), chunk)  # fmt: skip


def total(partial, scale, value):
    _total(gpu.THREADS)[1, gpu.THREADS](partial, float(scale), value)


def loss_values(pair, parameters, y, target, values, dy):
    if y.size:
        _values(pair)[gpu.blocks(y.size), gpu.THREADS](parameters, flat(y), flat(target), flat(values), flat(dy))


@functools.cache
def _sums(pair, threads):
    value, slope = pair.value, pair.slope
    sum_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel
    def sums(parameters, y, target, scale, partial, dy, chunk):
        k = np.int64(cuda.blockIdx.x)
        mine = 0.0
        for i in range(k * chunk + cuda.threadIdx.x, min((k + 1) * chunk, y.size), threads):
            mine += np.float64(value(y[i], target[i], *parameters))
            dy[i] = scale * slope(y[i], target[i], *parameters)
        mine = sum_of(mine)
        if cuda.threadIdx.x == 0:
            partial[k] = mine

    return sums


@functools.cache
def _total(threads):
    sum_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel
    def total(partial, scale, value):
        whole = sum_of(gpu.thread_sum(partial, threads))
        if cuda.threadIdx.x == 0:
            value[0] = whole * scale

    return total


@functools.cache
def _values(pair):
    value, slope = pair.value, pair.slope

    @gpu.kernel
    def values(parameters, y, target, losses, dy):
        for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
            losses[i] = value(y[i], target[i], *parameters)
            dy[i] = slope(y[i], target[i], *parameters)

    return values
