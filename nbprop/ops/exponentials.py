"""The first half of every softmax: a row's exponentials, their largest exponent, and their sum."""

from nbprop import jit
from nbprop.ops.run_sum import run_sum
from nbprop.ops.vecmath import exp, maximum

__all__ = ["exponentials"]


@jit.kernel
def exponentials(z, e):
    """Fill e with exp(z - max z), none of which overflows; return max z and the sum of e."""
    highest = z[0]
    for c in range(z.size):
        highest = maximum(highest, z[c])
    for c in range(z.size):
        e[c] = exp(z[c] - highest)
    return highest, run_sum(e)
