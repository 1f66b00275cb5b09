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
        Returns an array for packed weights or partial sums, and a list of Winograd's arrays, where it serves: for the
        number of threads in use and the algorithm in force.
    splits : bool
        Whether any pass is work enough for several threads.
    """

    def __init__(self, g, dtype, borrow, splits):
        self._geometry, self._borrow, self._splits = (g, dtype), borrow, splits
        self._states = {}
        self._now()  # borrows before anybody keeps this: memory that grows ends what was kept

    def settled(self, settle, relu=False):
        """Return settle(g, dtype, relu, memory, room), which takes longer than all of a tiny layer does."""
        memory, passes = self._now()
        found = passes.get((settle, relu))
        if found is None:
            found = passes[settle, relu] = settle(*self._geometry, relu, *memory)
        return found

    def _now(self):
        """Return the memory, and the passes settled on it, for the threads and the algorithm of now."""
        state = choose.forced(), jit.threads() if self._splits else None
        found = self._states.get(state)
        if found is None:
            found = self._states[state] = self._borrow(), {}
        return found
