"""Element-wise losses: value and gradient in one pass over fixed chunks of flat memory.

A chunk's sum is float64 and stored; the caller adds the sums in order, so threads do not change the result.
"""

import functools

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops.flat import bound, flat, tasks


def loss_sums(pair, parameters, y, target, scale, partial, dy):
    serial, parallel, _ = _kernels(pair)
    run = serial if tasks(y.size) == 1 else parallel
    chunk = -(-y.size // max(partial.size, 1))
    run(parameters, flat(y), flat(target), y.dtype.type(scale), partial, flat(dy), chunk)


def total(partial, scale, value):
    value[0] = partial.sum() * scale


def loss_values(pair, parameters, y, target, values, dy):
    _kernels(pair)[2](parameters, flat(y), flat(target), flat(values), flat(dy), tasks(y.size))


@functools.cache
def _kernels(pair):
    value, slope = pair.value, pair.slope

    @jit.kernel(reassoc=True)
    def chunk_sum(parameters, y, target, scale, dy):
        total = 0.0
        for i in range(y.size):
            total += np.float64(value(y[i], target[i], *parameters))
            dy[i] = scale * slope(y[i], target[i], *parameters)
        return total

    @jit.kernel
    def sums(parameters, y, target, scale, partial, dy, chunk):
        for k in range(partial.size):
            a, b = k * chunk, (k + 1) * chunk
            partial[k] = chunk_sum(parameters, y[a:b], target[a:b], scale, dy[a:b])

    @jit.driver
    def sums_tasks(parameters, y, target, scale, partial, dy, chunk):
        for k in prange(partial.size):
            a, b = k * chunk, (k + 1) * chunk
            partial[k] = chunk_sum(parameters, y[a:b], target[a:b], scale, dy[a:b])

    @jit.driver
    def values_tasks(parameters, y, target, losses, dy, tasks):
        for task in prange(tasks):
            for i in range(bound(task, y.size, tasks), bound(task + 1, y.size, tasks)):
                losses[i] = value(y[i], target[i], *parameters)
                dy[i] = slope(y[i], target[i], *parameters)

    return sums, sums_tasks, values_tasks
