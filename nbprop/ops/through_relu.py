"""ReLU's backward pass inside another op's: dy is multiplied by the slope where it is read.

    x --op--> y --ReLU-->      or      --ReLU--> x --op--> y

One pass over memory less. A pooling reads the ReLU's output y, or None where there is no ReLU: Numba compiles a kernel
for each of the two. A norm makes it again of x, which it reads anyway. Products on the CPU multiply what they wrote
instead, while the cache holds it: `gate_run`, and one kernel for both.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbprop import jit
from nbprop.ops import simd

__all__ = ["gate", "gate_run", "relu_slope", "through_relu"]

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


@jit.reference
def gate(dx, x):
    """Multiply dx by the slope where ReLU's output is x, if there is a ReLU."""
    if x is not None:
        for i in np.ndindex(x.shape):
            dx[i] *= relu_slope(x[i])


@intrinsic
def gate_run(typingctx, dx, at, x, count):
    """Multiply dx[at + i] by the slope where ReLU's output is x[at + i], for i < count, vector by vector."""
    return types.void(dx, at, x, count), functools.partial(simd.apart, f"{__name__}.gate_run", _emit_gate)


def _emit_gate(context, builder, args):
    dx, at, x, count = args
    vector = simd.register(context, dx)
    ones = ir.Constant(vector, [1.0] * vector.count)

    def gated(i, lanes, alive):
        place = builder.add(at, i)
        value, output = (simd.load(builder, vector, a, place, 0, alive) for a in (dx, x))
        passes = builder.fcmp_unordered(">", output, simd.zeros(vector))  # not y <= 0, as in relu_slope
        return [builder.fmul(value, builder.select(passes, ones, simd.zeros(vector)))]

    simd.by_vector(builder, vector, count, dx, [at], gated)
