"""The linear layer on the CPU: a convolution with a 1x1 kernel over a column of N pixels, or loops for a few rows."""

import numpy as np

from nbprop.ops.conv import cpu as conv
from nbprop.ops.conv import settle
from nbprop.ops.linear import few
from nbprop.ops.linear.as_conv import as_conv, pixels

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Allocate the scratch memory that all passes of this geometry share."""
    return conv.workspace(as_conv(g), dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = x w^T + b, or its positive part."""
    if 0 < g.N <= few.ROWS:
        few.forward(x, w.T, b, y, relu)
        return
    work.settled(_settle_forward, (w, b), g, relu)(x.reshape(-1), y.reshape(-1))


def _settle_forward(w, b, g, relu, packed, room):
    return settle.forward(pixels(w), b, as_conv(g), relu, packed, room)


def backward_input(dy, w, dx, g, work):
    """Fill dx = dy w."""
    if 0 < g.N <= few.ROWS:
        few.backward_input(dy, w.T, dx)
        return
    work.settled(_settle_input, (w,), g)(dy.reshape(-1), dx.reshape(-1))


def _settle_input(w, g, relu, packed, room):
    return settle.adjoint(pixels(w), np.zeros(g.K, w.dtype), as_conv(g), relu, packed, room)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw = dy^T x and db = sum of dy over rows."""
    if 0 < g.N <= few.ROWS:
        few.backward_weight(dy, x, dw.T, db)
        return
    work.settled(_settle_weight, (dw, db), g)(x.reshape(-1), dy.reshape(-1))


def _settle_weight(dw, db, g, relu, sums, room):
    return settle.weight(pixels(dw), db, as_conv(g), relu, sums, room)
