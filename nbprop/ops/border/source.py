"""The rule of each border: which position of x stands at a position of y, along one axis."""

from nbprop import jit, shapes

__all__ = ["CIRCULAR", "CONSTANT", "REFLECT", "REPLICATE", "source"]

CONSTANT, REFLECT, REPLICATE, CIRCULAR = range(len(shapes.BORDERS))


@jit.scalar
def source(o, size, before, after, mode):
    """Return the position of x that y's position o shows, or -1 for the constant.

    x is 0 1 2 3, before = after = 2:

        constant     . . 0 1 2 3 . .
        reflect      2 1 0 1 2 3 2 1     about the edge, which is not repeated
        replicate    0 0 0 1 2 3 3 3
        circular     2 3 0 1 2 3 0 1     with the period of what cropping leaves, as in torch
    """
    i = o - before
    if mode == CIRCULAR:
        first = max(-before, 0)
        return first + (i - first) % (size - max(-after, 0) - first)
    if 0 <= i < size:
        return i
    if mode == REFLECT:
        return -i if i < 0 else 2 * (size - 1) - i
    if mode == REPLICATE:
        return 0 if i < 0 else size - 1
    return -1
