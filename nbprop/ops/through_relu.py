"""ReLU's backward pass inside another op's: dy is multiplied by the slope where it is read.

    x --op--> y --ReLU-->      or      --ReLU--> x --op--> y

One pass over memory less. The op reads the ReLU's output y, or None where there is no ReLU: Numba compiles a kernel
for each of the two.
"""

import numpy as np

from nbprop import jit
from nbprop.ops.flat import flat

__all__ = ["flat_or_none", "relu_slope", "run", "through_relu"]

_0, _1 = np.float32(0), np.float32(1)  # exact in float32, so they leave the type of what they meet alone


@jit.scalar
def relu_slope(y):
    """Return the slope of ReLU where its output, or its input, is y; a NaN passes."""
    return _0 if y <= _0 else _1


@jit.scalar
def through_relu(dy, y, i):
    """Return dy[i], multiplied by the slope if there is a ReLU."""
    if y is None:
        return dy[i]
    return dy[i] * relu_slope(y[i])


@jit.scalar
def run(y, start, stop):
    """Return y[start:stop], if there is a ReLU."""
    if y is None:
        return None
    return y[start:stop]


def flat_or_none(y):
    """View an array of a layer as one run of memory, if there is a ReLU."""
    return None if y is None else flat(y)
