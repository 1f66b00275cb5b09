"""Caffe's power activation."""

import numpy as np

from nbprop import jit
from nbprop.ops.activation.pair import Pair

__all__ = ["POWER"]

_0, _1 = np.float32(0), np.float32(1)


@jit.scalar
def power(x, power, scale, shift):
    return (shift + scale * x) ** power


@jit.scalar
def power_slope(x, power, scale, shift):
    return power * scale * (shift + scale * x) ** (power - _1) if power != _0 else _0


# y = (shift + scale x)^power: dy/dx = power scale (shift + scale x)^(power - 1). NaN where a fractional power
# meets a negative base, as in every library.
POWER = Pair(power, power_slope, {"power": 1.0, "scale": 1.0, "shift": 0.0})
