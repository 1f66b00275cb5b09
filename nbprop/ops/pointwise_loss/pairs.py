"""Losses that are sums over elements: value and slope of one, as scalar formulas in y and target t."""

from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops.vecmath import exp, log1p, sigmoid

__all__ = ["ABSOLUTE", "BCE_WITH_LOGITS", "HALF_SQUARED", "HUBER", "SQUARED", "LossPair"]

# Exact in float32, so they leave the type of what they meet alone.
_0, _HALF, _1, _2 = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


class LossPair(NamedTuple):
    """l(y, t, *parameters) and dl/dy(y, t, *parameters), compiled by `jit.scalar`."""

    value: object
    slope: object


@jit.scalar
def squared(y, t):
    return (y - t) * (y - t)


@jit.scalar
def squared_slope(y, t):
    return _2 * (y - t)


@jit.scalar
def half_squared(y, t):
    return _HALF * (y - t) * (y - t)


@jit.scalar
def half_squared_slope(y, t):
    return y - t


@jit.scalar
def absolute(y, t):
    return abs(y - t)


@jit.scalar
def absolute_slope(y, t):
    d = y - t
    return _1 if d > _0 else (-_1 if d < _0 else d)  # 0 at 0, and a NaN passes


@jit.scalar
def huber(y, t, delta):
    d = abs(y - t)
    return _HALF * d * d if d <= delta else delta * (d - _HALF * delta)


@jit.scalar
def huber_slope(y, t, delta):
    d = y - t
    return delta if d > delta else (-delta if d < -delta else d)


@jit.scalar
def bce_with_logits(y, t):
    return (_0 if y < _0 else y) - y * t + log1p(exp(-abs(y)))


@jit.scalar
def bce_with_logits_slope(y, t):
    return sigmoid(y) - t


SQUARED = LossPair(squared, squared_slope)
HALF_SQUARED = LossPair(half_squared, half_squared_slope)
ABSOLUTE = LossPair(absolute, absolute_slope)
# Huber 1964, equation 13.
HUBER = LossPair(huber, huber_slope)
# -t log p - (1 - t) log(1 - p) with p = 1 / (1 + e^-y), which is max(y, 0) - y t + log(1 + e^-|y|).
BCE_WITH_LOGITS = LossPair(bce_with_logits, bce_with_logits_slope)
