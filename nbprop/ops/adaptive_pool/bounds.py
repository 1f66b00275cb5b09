"""Which positions an adaptive window covers, and which windows cover a position."""

from nbprop import jit

__all__ = ["holding", "window"]


@jit.scalar
def window(o, size, windows):
    """Return first and stop of a window: floor(o size / windows), ceil((o + 1) size / windows)."""
    return o * size // windows, ((o + 1) * size + windows - 1) // windows


@jit.scalar
def holding(position, size, windows):
    """Return first and stop of the windows that hold a position: the same formula, sizes exchanged.

    o size / windows < position + 1 bounds o from above, (o + 1) size / windows > position from below.
    """
    return window(position, windows, size)
