"""What values are divided by: three readings of "the standard deviation"."""

import math

from nbprop import jit

__all__ = ["DIVISORS", "fill_divisors"]

# Batch, instance and group norm; Caffe's MVN; MVN that leaves the variance alone.
DIVISORS = ("sqrt(v + eps)", "sqrt(v) + eps", "1")


@jit.reference
def fill_divisors(variance, eps, divisor, rstd, pull):
    """Fill rstd with 1/s and pull with 1/(s^2 t), where s is DIVISORS[divisor] and ds/dx_i = d_i / (m t)."""
    for b in range(variance.shape[0]):
        for g in range(variance.shape[1]):
            s, t = 1.0, math.inf
            if divisor == 0:
                s = t = math.sqrt(variance[b, g] + eps)
            elif divisor == 1:
                # Where all values are equal, sqrt has no slope, and no x_i - mean to multiply it: take 0.
                t = math.sqrt(variance[b, g])
                s = t + eps
                t = math.inf if t == 0 else t
            rstd[b, g] = 1 / s
            pull[b, g] = 1 / (s * s * t)
