"""Convolution on the CPU: each pass is one dense correlation (or one per stride phase) over channels-last memory."""

import functools

import numpy as np

from nbprop import jit, layout, scratch
from nbprop.ops import correlate, dense, outer
from nbprop.ops.conv import choose, fast, pack, plan, wide
from nbprop.ops.conv.adjoint import adjoint, floor

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

# Pixels above which copying the weights into panels costs less than sweeping them with gaps between their rows: the
# copy is one pass over them, the sweep one per tile of 6 to 14 pixels.
_PACK_PIXELS = 512


def workspace(g, dtype):
    """Lend what the three passes need: packed weights or partial sums, and Winograd's arrays where it serves."""
    # Enough for the chooser's algorithm too where another is in force: a layer keeps its workspace.
    sizes = _sizes(g, np.dtype(dtype), choose.largest_tiles(g), jit.threads())
    flat, *room = scratch.borrow(sizes, np.dtype(dtype))
    return flat, room


@functools.lru_cache(maxsize=512)
def _sizes(g, dtype, tiles, threads):
    """Return the elements of each array; `threads` is a key, as the plans ask for it themselves."""
    p = plan.forward(g)
    chunks, sums = outer.partials_shape(p, dtype)
    panels = [correlate.panels_size(q, dtype) for q in (p, *(phase.correlation for phase in plan.phases(g)))]
    passes = []
    for kind, m in zip(("forward", "input", "weight"), tiles):
        if m:
            q = fast.plan(kind, g, m, dtype)
            passes.append(fast.gradient_memory(q, dtype) if kind == "weight" else fast.memory(q, dtype))
    return max(chunks * sums, wide.size(g, dtype), *panels), *map(max, zip(*passes))


def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    x, y, w = layout.nhwc(x).reshape(-1), layout.nhwc(y).reshape(-1), layout.khwio(w).reshape(-1)
    flat, room = work
    m = choose.winograd_tile("forward", g)
    if m:
        fast.correlate(x, w, False, b, y, fast.plan("forward", g, m, x.dtype), room, floor(x.dtype, relu))
        return
    several = wide.forward(g, x.dtype, choose.exact())
    if several:
        wide.run(x, w, b, y, several, g.C, (g.KW * g.C * g.O, g.C * g.O, g.O, 1), flat, floor(x.dtype, relu))
        return
    p = plan.forward(g)
    width = correlate.panel_width(p, x.dtype)
    in_place = p.LANEWISE or (p.G == 1 and (p.OG == width or p.N * p.OH * p.OW < _PACK_PIXELS))
    ldw = p.OG
    if not in_place:
        pack.pack(w, flat, p.G, p.OG, p.KH * p.KW * p.CG, width, dense.worth_threads(4 * w.size))
        w, ldw = flat, width
    correlate.correlate(x, w, ldw, b, y, p, floor(x.dtype, relu))


def backward_input(dy, w, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride."""
    adjoint(dy, w, _no_bias(g.C, dy.dtype), dx, g, False, work)


@functools.lru_cache(maxsize=512)
def _no_bias(channels, dtype):
    """Return zeros that every call shares: a training step allocates nothing."""
    return np.zeros(channels, dtype)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    dy, x, dw = layout.nhwc(dy).reshape(-1), layout.nhwc(x).reshape(-1), layout.khwio(dw).reshape(-1)
    flat, room = work
    m = choose.winograd_tile("weight", g)
    if m:
        fast.weight_gradient(x, dy, dw, db, fast.plan("weight", g, m, x.dtype), room)
        return
    several = wide.forward(g, x.dtype, choose.exact())
    if several:
        wide.weight_gradient(x, dy, dw, db, several, flat)
        return
    p = plan.forward(g)
    chunks, sums = outer.partials_shape(p, x.dtype)
    outer.outer(x, dy, dw, db, p, flat[: chunks * sums].reshape(chunks, sums))
