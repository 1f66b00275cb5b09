"""The sums of a run of memory, and of the products of two, in vector lanes."""

from nbprop import jit

__all__ = ["run_dot", "run_sum"]


@jit.kernel(reassoc=True)
def run_sum(a):
    """Return the sum of a, in a's dtype.

    A reordered sum needs a loop of its own, that stores nothing: beside a store, LLVM tests at run time whether the
    arrays are too near each other for vectors, and where they are adds in another order. Equal numbers at other
    addresses would give other bits.
    """
    total = a.dtype.type(0)
    for i in range(a.size):
        total += a[i]
    return total


@jit.kernel(reassoc=True)
def run_dot(a, b):
    """Return the sum of a times b, in a's dtype."""
    total = a.dtype.type(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total
