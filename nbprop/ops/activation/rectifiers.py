"""Activations made of straight pieces. At a kink the slope is torch's choice, unless said otherwise."""

import numpy as np

from nbprop import jit
from nbprop.ops.activation.pair import Pair
from nbprop.ops.through_relu import relu_slope

__all__ = ["ABS", "HARDSIGMOID", "HARDSWISH", "HARDTANH", "LEAKY_RELU", "PRELU", "RELU", "RELU_AT_ZERO"]

# Exact in float32, so they leave the type of what they meet alone.
_0, _1, _2, _3, _6 = np.float32(0), np.float32(1), np.float32(2), np.float32(3), np.float32(6)


@jit.scalar
def relu(x):
    return _0 if x < _0 else x  # a NaN passes


# Seed 000, equation 4; slope 0 at 0, as in seeds 001 and 004 and in torch.
RELU = Pair(relu, relu_slope, of_output=True)


@jit.scalar
def relu_at_zero(x, grad_at_zero):
    return _0 if x < _0 else x


@jit.scalar
def relu_at_zero_slope(x, grad_at_zero):
    return _0 if x < _0 else (grad_at_zero if x == _0 else _1)


# Equation 5 with grad_at_zero = 1.
RELU_AT_ZERO = Pair(relu_at_zero, relu_at_zero_slope, {"grad_at_zero": 1.0})


@jit.scalar
def leaky_relu(x, negative_slope):
    return x if x > _0 else negative_slope * x


@jit.scalar
def leaky_relu_slope(x, negative_slope):
    return _1 if x > _0 else negative_slope


@jit.scalar
def prelu_weight_slope(x, weight):
    return _0 if x > _0 else x


# Maas et al. 2013; learned: He et al. 2015, equation 8. dE/dweight = sum of dy x over x <= 0 (equation 3).
LEAKY_RELU = Pair(leaky_relu, leaky_relu_slope, {"negative_slope": 0.01})
PRELU = Pair(leaky_relu, leaky_relu_slope, {"weight": 0.25}, (prelu_weight_slope,))


@jit.scalar
def absolute(x):
    return abs(x)


@jit.scalar
def absolute_slope(x):
    return _1 if x > _0 else (-_1 if x < _0 else _0)


ABS = Pair(absolute, absolute_slope)


@jit.scalar
def hardtanh(x, min_val, max_val):
    return min_val if x < min_val else (max_val if x > max_val else x)


@jit.scalar
def hardtanh_slope(y, min_val, max_val):
    return _0 if (y <= min_val) | (y >= max_val) else _1


# Seed 001; slope 0 at both kinks.
HARDTANH = Pair(hardtanh, hardtanh_slope, {"min_val": -1.0, "max_val": 1.0}, of_output=True)


@jit.scalar
def hardsigmoid(x):
    return _0 if x <= -_3 else (_1 if x >= _3 else (x + _3) / _6)


@jit.scalar
def hardsigmoid_slope(x):
    return _1 / _6 if (x > -_3) & (x < _3) else _0


HARDSIGMOID = Pair(hardsigmoid, hardsigmoid_slope)


@jit.scalar
def hardswish(x):
    return _0 if x <= -_3 else (x if x >= _3 else x * (x + _3) / _6)


@jit.scalar
def hardswish_slope(x):
    return _0 if x <= -_3 else (_1 if x >= _3 else (_2 * x + _3) / _6)


# Howard et al. 2019, section 5.2.
HARDSWISH = Pair(hardswish, hardswish_slope)
