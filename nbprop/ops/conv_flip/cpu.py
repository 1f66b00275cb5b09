"""True convolution on the CPU: cross-correlation with the rotated kernel."""

import numpy as np

from nbprop import layout
from nbprop.ops.conv import cpu as conv


def workspace(g, dtype):
    """Allocate the rotated weights, and the correlation's scratch memory."""
    return layout.empty_weights((g.O, g.C // g.G, g.KH, g.KW), dtype), conv.workspace(g, dtype)


def forward(x, w, b, y, g, work):
    rotated, scratch = work
    np.copyto(rotated, w[:, :, ::-1, ::-1])
    conv.forward(x, rotated, b, y, g, False, scratch)


def backward_input(dy, w, dx, g, work):
    rotated, scratch = work
    np.copyto(rotated, w[:, :, ::-1, ::-1])
    conv.backward_input(dy, rotated, None, dx, g, scratch)


def backward_weight(dy, x, dw, db, g, work):
    rotated, scratch = work
    conv.backward_weight(dy, x, rotated, db, g, scratch)
    np.copyto(dw, rotated[:, :, ::-1, ::-1])
