"""A convolution's scratch memory, and its passes with all settled but their arrays."""

from nbprop import jit
from nbprop.ops.conv import choose

__all__ = ["Workspace"]


class Workspace:
    """What the three passes of one geometry need beside their arrays.

    Parameters
    ----------
    g : shapes.Conv2d
        The geometry.
    dtype : numpy dtype
        Of all arrays.
    borrow : function
        Returns, for the number of threads in use, an array for packed weights or partial sums, and a list of Winograd's
        arrays, where it serves.
    splits : bool
        Whether any pass is work enough for several threads.

    All is settled anew where the number of threads is another, or another algorithm is in force.
    """

    def __init__(self, g, dtype, borrow, splits):
        self._geometry, self._borrow, self._splits = (g, dtype), borrow, splits
        self._state = None

    def settled(self, settle, relu=False):
        """Return settle(g, dtype, relu, memory, room), which takes longer than all of a tiny layer does."""
        state = choose.forced(), jit.threads() if self._splits else None
        if state != self._state:
            self._state, self._settled, self._memory = state, {}, self._borrow()
        kept = self._settled.get((settle, relu))
        if kept is None:
            kept = self._settled[settle, relu] = settle(*self._geometry, relu, *self._memory)
        return kept
