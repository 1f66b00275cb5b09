"""The sum of a run of memory in vector lanes."""

from nbprop import jit

__all__ = ["run_sum"]


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
