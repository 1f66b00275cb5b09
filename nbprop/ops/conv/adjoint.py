"""The adjoint of a convolution on the CPU: its input gradient, and a transposed convolution's forward pass."""

import numpy as np

from nbprop import layout
from nbprop.ops import correlate, dense
from nbprop.ops.conv import choose, fast, pack, plan, wide

__all__ = ["adjoint", "floor"]


def adjoint(dy, w, b, dx, g, relu, work):
    """Fill dx = b + the input gradient, or its positive part: a transposed convolution's forward pass."""
    dy, dx, w = layout.nhwc(dy).reshape(-1), layout.nhwc(dx).reshape(-1), layout.khwio(w).reshape(-1)
    flat, room = work
    m = choose.winograd_tile("input", g)
    if m:
        fast.correlate(dy, w, True, b, dx, fast.plan("input", g, m, dy.dtype), room, floor(dy.dtype, relu))
        return
    several = wide.phases(g, dy.dtype, choose.exact())
    if several:
        for each in several:
            wide.run(dy, w, b, dx, each, g.O, (g.KW * g.C * g.O, g.C * g.O, 1, g.O), flat, floor(dy.dtype, relu))
        return
    for p, taps in plan.phases(g):
        width = correlate.panel_width(p, dy.dtype)
        if p.LANEWISE:
            width = p.C
            pack.pack_reversed(w, flat, p.C, g.KW, taps)
        else:
            pack.pack_transposed(w, flat, p.G, p.OG, p.CG, g.KW, width, taps, dense.worth_threads(4 * w.size))
        correlate.correlate(dy, flat, width, b, dx, p, floor(dy.dtype, relu))


def floor(dtype, relu):
    """Return what a product's results are raised to at least: 0 for a ReLU, else minus infinity."""
    return dtype.type(0 if relu else -np.inf)
