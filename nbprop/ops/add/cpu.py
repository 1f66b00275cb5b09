"""Addition as one pass over memory, the positive part taken on the way where a ReLU follows."""

from numba import prange

from nbprop import jit
from nbprop.ops.flat import bound, flat, tasks


def add_forward(a, b, y, relu):
    a, b, y, count = flat(a), flat(b), flat(y), tasks(y.size)
    if count == 1:
        _add(a, b, y, relu)
    else:
        _add_tasks(a, b, y, relu, count)


@jit.kernel
def _add(a, b, y, relu):
    zero = y.dtype.type(0)
    if relu:
        for i in range(y.size):
            v = a[i] + b[i]
            y[i] = zero if v < zero else v  # a NaN passes
    else:
        for i in range(y.size):
            y[i] = a[i] + b[i]


@jit.driver
def _add_tasks(a, b, y, relu, tasks):
    for t in prange(0, tasks):
        i, j = bound(t, y.size, tasks), bound(t + 1, y.size, tasks)
        _add(a[i:j], b[i:j], y[i:j], relu)
