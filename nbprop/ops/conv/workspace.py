"""A convolution's scratch memory, and its passes with all settled but the data that flows through them."""

import operator

from nbprop import layout
from nbprop.ops.conv import choose

__all__ = ["Workspace"]


class Workspace:
    """What the three passes of one geometry need beside their arrays.

    Parameters
    ----------
    flat : array
        Packed weights, or partial sums.
    room : list of array
        Winograd's arrays, where it serves.
    """

    def __init__(self, flat, room):
        self.flat, self.room = flat, room
        self._settled = {}

    def settled(self, settle, parameters, g, relu=False):
        """Return settle(*parameters, g, relu, flat, room), made anew for other arrays or another algorithm.

        To settle a pass takes longer than all of it does where the layer is tiny; nothing of it changes from step to
        step as long as the parameters are the same arrays.
        """
        key = settle, relu, choose.forced()
        kept = self._settled.get(key)
        if kept is None or not all(map(operator.is_, kept[0], parameters)):
            kept = parameters, settle(*parameters, g, relu, self.flat, self.room)
            if all(map(_as_laid_out, parameters)):
                self._settled[key] = kept
        return kept[1]


def _as_laid_out(a):
    """Say whether an array has the memory order of weights: of another one, a settled pass has a copy."""
    return (layout.khwio(a) if a.ndim == 4 else a.T).flags.c_contiguous
