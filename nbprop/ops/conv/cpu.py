"""Convolution on the CPU: each pass is one dense correlation (or one per stride phase) over channels-last memory."""

import numpy as np

from nbprop import jit, layout
from nbprop.ops import correlate, dense, outer
from nbprop.ops.conv import pack, plan

__all__ = ["adjoint", "backward_input", "backward_weight", "forward", "workspace"]

# Pixels above which copying the weights into panels costs less than sweeping them with gaps between their rows: the
# copy is one pass over them, the sweep one per tile of 6 to 14 pixels.
_PACK_PIXELS = 512


def workspace(g, dtype):
    """Allocate the memory for packed weights and for partial sums, which the three passes share."""
    p = plan.forward(g)
    correlations = [p] + [phase.correlation for phase in plan.phases(g)]
    chunks, sums = outer.partials_shape(p, dtype)
    size = max([chunks * sums, 1] + [correlate.panels_size(q, dtype) for q in correlations])
    return layout.empty((size,), dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    x, y, w = layout.nhwc(x).reshape(-1), layout.nhwc(y).reshape(-1), layout.khwio(w).reshape(-1)
    p = plan.forward(g)
    width = correlate.panel_width(p, x.dtype)
    in_place = p.G == 1 and (p.OG == width or p.N * p.OH * p.OW < _PACK_PIXELS) or p.LANEWISE
    ldw = p.OG
    if not in_place:
        pack.pack(w, work, p.G, p.OG, p.KH * p.KW * p.CG, width, dense.worth_threads(4 * w.size))
        w, ldw = work, width
    correlate.correlate(x, w, ldw, b, y, p, _floor(x.dtype, relu))


def backward_input(dy, w, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride."""
    adjoint(dy, w, np.zeros(g.C, dy.dtype), dx, g, False, work)


def adjoint(dy, w, b, dx, g, relu, work):
    """Fill dx = b + the input gradient, or its positive part: a transposed convolution's forward pass."""
    dy, dx, w = layout.nhwc(dy).reshape(-1), layout.nhwc(dx).reshape(-1), layout.khwio(w).reshape(-1)
    for p, taps in plan.phases(g):
        width = correlate.panel_width(p, dy.dtype)
        if p.LANEWISE:
            width = p.C
            pack.pack_reversed(w, work, p.C, g.KW, taps)
        else:
            pack.pack_transposed(w, work, p.G, p.OG, p.CG, g.KW, width, taps, dense.worth_threads(4 * w.size))
        correlate.correlate(dy, work, width, b, dx, p, _floor(dy.dtype, relu))


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    dy, x, dw = layout.nhwc(dy).reshape(-1), layout.nhwc(x).reshape(-1), layout.khwio(dw).reshape(-1)
    p = plan.forward(g)
    chunks, sums = outer.partials_shape(p, x.dtype)
    outer.outer(x, dy, dw, db, p, work[: chunks * sums].reshape(chunks, sums))


def _floor(dtype, relu):
    return dtype.type(0 if relu else -np.inf)

