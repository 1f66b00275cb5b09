"""Convolution on the CPU: passes over channels-last memory, settled for a geometry, then run as often as wanted."""

import functools

import numpy as np

from nbprop import jit, scratch
from nbprop.ops import correlate, dense, outer
from nbprop.ops.conv import choose, fast, plan, settle, spread, wide
from nbprop.ops.conv.workspace import Workspace
from nbprop.ops.flat import flat, flat_weights

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


@scratch.kept
def workspace(g, dtype):
    """Return what lends the three passes their memory: packed weights or partial sums, and Winograd's arrays."""
    dtype = np.dtype(dtype)

    def borrow():
        tiles = tuple(choose.winograd_tile(kind, g) for kind in ("forward", "input", "weight"))
        sizes = _sizes(g, dtype, tiles, jit.threads())
        memory, *room = scratch.borrow(sizes, dtype)
        return memory, room

    # No pass has more operations, nor does packing the weights count as more.
    pixels = g.N * max(g.H, g.OH) * max(g.W, g.OW)
    return Workspace(g, dtype, borrow, dense.splits(g.O * g.C // g.G * g.KH * g.KW * max(2 * pixels, 4)))


@functools.lru_cache(maxsize=512)
def _sizes(g, dtype, tiles, threads):
    """Return the elements of each array; `threads` is a key, as the plans ask for it themselves."""
    p = plan.forward(g)
    panels = [correlate.panels_size(q, dtype) for q in (p, *(phase.correlation for phase in plan.phases(g)))]
    rooms = []
    for kind, m in zip(("forward", "input", "weight"), tiles):
        for q in fast.passes(kind, g, m, dtype, threads) if m else ():
            rooms.append(fast.gradient_memory(q, dtype) if kind == "weight" else fast.memory(q, dtype))
    return max(outer.memory(p, dtype), wide.size(g, dtype), spread.size(g, dtype), *panels), *map(max, zip(*rooms))


def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    work.settled(settle.forward, relu)(flat(x), flat_weights(w), b, flat(y))


def backward_input(dy, w, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride."""
    work.settled(settle.adjoint)(flat(dy), flat_weights(w), _no_bias(g.C, dy.dtype), flat(dx))


@functools.lru_cache(maxsize=512)
def _no_bias(channels, dtype):
    """Return zeros that every call shares: a training step allocates nothing."""
    return np.zeros(channels, dtype)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    work.settled(settle.weight)(flat(x), flat(dy), flat(dw), db)
