"""One column of theta (parameters, C), as the tuple of numbers that a scalar formula takes."""

import functools

from nbprop import jit

__all__ = ["MOST", "column"]

_COLUMNS = (
    lambda theta, c: (theta[0, c],),
    lambda theta, c: (theta[0, c], theta[1, c]),
    lambda theta, c: (theta[0, c], theta[1, c], theta[2, c]),
    lambda theta, c: (theta[0, c], theta[1, c], theta[2, c], theta[3, c]),
)
MOST = len(_COLUMNS)


@functools.cache
def column(count):
    """Return the compiled (theta, c) -> theta[:, c]: a tuple's length is part of its type."""
    return jit.scalar(_COLUMNS[count - 1])
