"""Element-wise losses, one element after the other."""

import functools

from nbprop import jit
from nbprop.ops.flat import flat


def loss_sums(pair, parameters, y, target, scale, partial, dy):
    _loops(pair)[0](parameters, flat(y), flat(target), scale, partial, flat(dy))


@jit.reference
def total(partial, scale, value):
    value[0] = 0
    for k in range(partial.size):
        value[0] += scale * partial[k]


def loss_values(pair, parameters, y, target, values, dy):
    _loops(pair)[1](parameters, flat(y), flat(target), flat(values), flat(dy))


@functools.cache
def _loops(pair):
    value, slope = pair.value, pair.slope

    @jit.reference
    def sums(parameters, y, target, scale, partial, dy):
        chunk = -(-y.size // max(partial.size, 1))
        partial[:] = 0
        for i in range(y.size):
            partial[i // chunk] += value(y[i], target[i], *parameters)
            dy[i] = scale * slope(y[i], target[i], *parameters)

    @jit.reference
    def values(parameters, y, target, losses, dy):
        for i in range(y.size):
            losses[i] = value(y[i], target[i], *parameters)
            dy[i] = slope(y[i], target[i], *parameters)

    return sums, values
