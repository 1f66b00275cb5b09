"""Element-wise losses: value and gradient in one pass over fixed chunks of flat memory.

A chunk's sum is float64 and stored; the caller adds the sums in order, so threads do not change the result.
"""

import functools

import numpy as np

from nbprop import jit
from nbprop.ops.flat import flat, share, stretch, tasks

_RUN = 1024  # elements that stay in the first-level cache from their values, which a loop without stores adds up
# (see `run_sum`), to their gradients


def loss_sums(pair, parameters, y, target, scale, partial, dy):
    sums, _ = _kernels(pair)
    chunk = -(-y.size // max(partial.size, 1))
    sums(parameters, flat(y), flat(target), y.dtype.type(scale), partial, flat(dy), chunk, tasks(y.size))


def total(partial, scale, value):
    value[0] = partial.sum() * scale


def loss_values(pair, parameters, y, target, values, dy):
    _, fill = _kernels(pair)
    fill(parameters, flat(y), flat(target), flat(values), flat(dy), tasks(y.size))


@functools.cache
def _kernels(pair):
    value, slope = pair.value, pair.slope

    @jit.kernel(reassoc=True, allocates=True)
    def run_values(parameters, y, target):
        total = 0.0
        for i in range(y.size):
            total += np.float64(value(y[i], target[i], *parameters))
        return total

    @jit.kernel(allocates=True)
    def run_slopes(parameters, y, target, scale, dy):
        for i in range(y.size):
            dy[i] = scale * slope(y[i], target[i], *parameters)

    @jit.kernel(allocates=True)
    def chunk_sum(parameters, y, target, scale, dy):
        total = 0.0
        for a in range(0, y.size, _RUN):
            b = a + _RUN
            total += run_values(parameters, y[a:b], target[a:b])
            run_slopes(parameters, y[a:b], target[a:b], scale, dy[a:b])
        return total

    @jit.driver(allocates=True)
    def sums(parameters, y, target, scale, partial, dy, chunk, task, tasks):
        for k in range(*share(partial.size, task, tasks)):
            a, b = k * chunk, (k + 1) * chunk
            partial[k] = chunk_sum(parameters, y[a:b], target[a:b], scale, dy[a:b])

    @jit.driver(allocates=True)
    def values(parameters, y, target, losses, dy, task, tasks):
        begin, end = stretch(y.size, task, tasks)
        y, target, losses, dy = y[begin:end], target[begin:end], losses[begin:end], dy[begin:end]
        for i in range(y.size):
            losses[i] = value(y[i], target[i], *parameters)
            dy[i] = slope(y[i], target[i], *parameters)

    return sums, values
