"""Activations made of exp and its kin."""

import math

import numpy as np

from nbprop import jit
from nbprop.ops.activation.pair import Pair
from nbprop.ops.vecmath import constant, erfc, exp, expm1, log1p, sigmoid, tanh

__all__ = ["ELU", "GELU", "GELU_TANH", "SIGMOID", "SILU", "SOFTPLUS", "TANH"]

_0, _HALF, _1, _3 = np.float32(0), np.float32(0.5), np.float32(1), np.float32(3)


@jit.scalar
def logistic(x):
    return sigmoid(x)


@jit.scalar
def logistic_slope(y):
    return y * (_1 - y)


# y = 1 / (1 + e^-x): dy/dx = e^-x / (1 + e^-x)^2 = y (1 - y).
SIGMOID = Pair(logistic, logistic_slope, of_output=True)


@jit.scalar
def hyperbolic_tangent(x):
    return tanh(x)


@jit.scalar
def hyperbolic_tangent_slope(y):
    return _1 - y * y


# y = sinh / cosh: dy/dx = (cosh^2 - sinh^2) / cosh^2 = 1 - y^2.
TANH = Pair(hyperbolic_tangent, hyperbolic_tangent_slope, of_output=True)


@jit.scalar
def elu(x, alpha):
    return x if x > _0 else alpha * expm1(x)


@jit.scalar
def elu_slope(y, alpha):
    return _1 if y > _0 else y + alpha


# Clevert et al. 2016. Left of 0, dy/dx = alpha e^x = y + alpha.
ELU = Pair(elu, elu_slope, {"alpha": 1.0}, of_output=True)


@jit.scalar
def silu(x):
    return x * sigmoid(x)


@jit.scalar
def silu_slope(x):
    s = sigmoid(x)
    return s * (_1 + x * (_1 - s))


SILU = Pair(silu, silu_slope)


@jit.scalar
def softplus(x, beta, threshold):
    z = beta * x
    smooth = ((_0 if z < _0 else z) + log1p(exp(-abs(z)))) / beta
    return x if z > threshold else smooth


@jit.scalar
def softplus_slope(x, beta, threshold):
    z = beta * x
    return _1 if z > threshold else sigmoid(z)


# log(1 + e^z) / beta with z = beta x; beyond the threshold x itself, as in torch.
SOFTPLUS = Pair(softplus, softplus_slope, {"beta": 1.0, "threshold": 20.0})


@jit.scalar
def gelu(x):
    return x * _HALF * erfc(-x * constant(math.sqrt(0.5), x))


@jit.scalar
def gelu_slope(x):
    density = exp(-_HALF * x * x) * constant(1 / math.sqrt(2 * math.pi), x)
    return _HALF * erfc(-x * constant(math.sqrt(0.5), x)) + x * density


# Hendrycks and Gimpel 2016: x Phi(x), so dy/dx = Phi(x) + x phi(x), with the normal distribution Phi.
GELU = Pair(gelu, gelu_slope)


@jit.scalar
def gelu_tanh(x):
    u = constant(math.sqrt(2 / math.pi), x) * (x + constant(0.044715, x) * x * x * x)
    return _HALF * x * (_1 + tanh(u))


@jit.scalar
def gelu_tanh_slope(x):
    a, b = constant(math.sqrt(2 / math.pi), x), constant(0.044715, x)
    t = tanh(a * (x + b * x * x * x))
    return _HALF * (_1 + t) + _HALF * x * (_1 - t * t) * a * (_1 + _3 * b * x * x)


GELU_TANH = Pair(gelu_tanh, gelu_tanh_slope)
