"""Transposed convolution on the CPU: convolution's passes with x and y exchanged.

`g` is the geometry of the convolution whose adjoint this is: g.C, g.H, g.W are y's sizes, g.O, g.OH, g.OW x's.
"""

import numpy as np

from nbprop import layout
from nbprop.ops import pixels
from nbprop.ops.conv import cpu as conv
from nbprop.ops.conv import settle
from nbprop.ops.flat import flat, flat_or_none
from nbprop.tape import launches

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Allocate what the three passes share: convolution's memory, no bias, a gradient nobody asks for, partial sums."""
    partials = layout.empty((pixels.partials_size(g.C, dtype),), dtype)
    return conv.workspace(g, dtype), np.zeros(g.O, dtype), np.empty(g.O, dtype), partials


@launches
def forward(x, w, b, y, g, relu, work):
    """Fill y = b + A^T x, or its positive part."""
    work[0].run_with(w, b, settle.adjoint, relu, flat(x), flat(y))


@launches
def backward_input(dy, w, x, dx, g, work):
    """Fill dx = A dy, a plain convolution; if x is the output of a ReLU, and not None, behind its backward pass."""
    work[0].run_with(w, work[1], settle.forward, False, flat(dy), flat(dx), flat_or_none(x))


@launches
def backward_weight(dy, x, dw, db, g, work):
    """Fill dw, the weight gradient of the convolution of dy whose output gradient is x; and db, the sum of dy."""
    conv.backward_weight(x, dy, dw, work[2], g, work[0])
    pixels.sum_pixels(layout.nhwc(dy).reshape(-1, g.C), work[3], db)

