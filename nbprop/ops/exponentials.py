"""The first half of every softmax: a row's exponentials, their largest exponent, and their sum."""

from nbprop import jit
from nbprop.ops.vecmath import exp, maximum

__all__ = ["exponentials"]


@jit.kernel(reassoc=True)
def exponentials(z, e):
    """Fill e with exp(z - max z), none of which overflows; return max z and the sum of e."""
    highest = z[0]
    for c in range(z.size):
        highest = maximum(highest, z[c])
    total = z.dtype.type(0)
    for c in range(z.size):
        power = exp(z[c] - highest)
        e[c] = power
        total += power
    return highest, total
