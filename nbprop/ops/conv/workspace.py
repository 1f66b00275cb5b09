"""A convolution's scratch memory, and its passes with all settled but their arrays."""

from nbprop import jit, scratch
from nbprop.ops import correlate, dense, lanewise_outer, outer
from nbprop.ops.conv import choose, fast, plan, spread, wide
from nbprop.ops.flat import flat, flat_weights, same_again
from nbprop.ops.queue import queue

__all__ = ["Workspace"]


class Workspace:
    """What the three passes of one geometry need beside their arrays.

    Parameters
    ----------
    g : shapes.Conv2d
        The geometry.
    dtype : numpy dtype
        Of all arrays.
    """

    def __init__(self, g, dtype):
        self._g, self._dtype, self._states = g, dtype, {}
        # Whether any pass is work for several threads: none has more operations.
        self._splits = dense.splits(2 * g.weights * g.N * max(g.H, g.OH) * max(g.W, g.OW))
        self._now()  # borrows before anybody keeps this: memory that grows ends what was kept

    def run(self, settle, relu, *arrays):
        """Call settle(g, dtype, relu, memory, room), kept as it takes longer than all of a tiny layer does."""
        memory, passes = self._now()
        found = passes.get((settle, relu))
        if found is None:
            found = passes[settle, relu] = settle(self._g, self._dtype, relu, *memory)
        found(*arrays)

    def run_with(self, w, b, settle, relu, x, *rest):
        """Call it for a pass with parameters: those in another order than ours are copied, anew at every call."""
        self.run(settle, relu, x, same_again(flat_weights(w), w), same_again(flat(b), b), *rest)

    def _now(self):
        """Return the memory, and the passes settled on it, for the threads and the algorithm of now."""
        forced = choose.forced()
        state = forced, jit.threads() if self._splits or forced else None
        found = self._states.get(state)
        if found is None:
            memory, *room = scratch.borrow(_sizes(self._g, self._dtype), self._dtype)
            found = self._states[state] = (memory, (*room, queue(jit.threads()))), {}
        return found


def _sizes(g, dtype):
    """Return the elements of the memory for panels or partial sums, and of Winograd's arrays if it serves."""
    p = plan.forward(g)
    panels = [correlate.memory(q, dtype) for q in (p, *(phase.correlation for phase in plan.phases(g)))]
    rooms = []
    for kind in ("forward", "input", "weight"):
        m = choose.winograd_tile(kind, g)
        for q in fast.passes(kind, g, m, dtype, jit.threads()) if m else ():
            rooms.append(fast.gradient_memory(q, dtype) if kind == "weight" else fast.memory(q, dtype))
    sums = (lanewise_outer if p.LANEWISE else outer).memory(p, dtype)
    return max(sums, wide.size(g, dtype), spread.size(g, dtype), *panels), *map(max, zip(*rooms))
