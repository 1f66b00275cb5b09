"""A convolution's scratch memory, and its passes with all settled but the data that flows through them."""

import operator

from nbprop import jit, layout
from nbprop.ops.conv import choose

__all__ = ["Workspace"]


class Workspace:
    """What the three passes of one geometry need beside their arrays.

    Parameters
    ----------
    borrow : function
        Returns, for the number of threads in use, an array for packed weights or partial sums, and a list of Winograd's
        arrays, where it serves.
    splits : bool
        Whether any pass is work enough for several threads; all is settled anew when their number has changed.
    """

    def __init__(self, borrow, splits):
        self._borrow, self._splits, self._threads = borrow, splits, None
        self._settled = {}

    def settled(self, settle, parameters, g, relu=False):
        """Return settle(*parameters, g, relu, memory, room), made anew for other arrays or another algorithm.

        To settle a pass takes longer than all of it does where the layer is tiny; nothing of it changes from step to
        step as long as the parameters are the same arrays.
        """
        if self._threads is None or (self._splits and self._threads != jit.threads()):
            self._threads, self._settled, self._memory = jit.threads(), {}, self._borrow()
        key = settle, relu, choose.forced()
        kept = self._settled.get(key)
        if kept is None or not all(map(operator.is_, kept[0], parameters)):
            kept = parameters, settle(*parameters, g, relu, *self._memory)
            if all(map(_as_laid_out, parameters)):
                self._settled[key] = kept
        return kept[1]


def _as_laid_out(a):
    """Say whether an array has the memory order of weights: of another one, a settled pass has a copy."""
    return (layout.khwio(a) if a.ndim == 4 else a.T).flags.c_contiguous
