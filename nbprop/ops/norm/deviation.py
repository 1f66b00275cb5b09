"""What values are divided by, three readings of "the standard deviation", and the line that a norm then is."""

import math

from nbprop import jit

__all__ = ["DIVISORS", "affine", "divisors"]

# Batch, instance and group norm; Caffe's MVN; MVN that leaves the variance alone.
DIVISORS = ("sqrt(v + eps)", "sqrt(v) + eps", "1")


@jit.scalar
def divisors(v, eps, divisor):
    """Return 1/s and 1/(s^2 t) of a variance, where s is DIVISORS[divisor] and ds/dx_i = d_i / (m t)."""
    s, t = 1.0, math.inf
    if divisor == 0:
        s = t = math.sqrt(v + eps)
    elif divisor == 1:
        # Where all values are equal, sqrt has no slope, and no x_i - mean to multiply it: take 0.
        t = math.sqrt(v)
        s = t + eps
        t = math.inf if t == 0 else t
    return 1 / s, 1 / (s * s * t)


@jit.scalar
def affine(weight, bias, mean, rstd, centre):
    """Return scale and shift of y = (x - centre) scale + shift; `centre` is the mean in x's dtype.

    Backward passes remake y by the same two numbers, to the bit.
    """
    scale = weight * rstd
    return scale, bias - (mean - centre) * scale
