"""True convolution on the GPU: cross-correlation with the rotated kernel."""

from nbprop import gpu, layout
from nbprop.ops.conv import cuda as conv


def workspace(g, dtype):
    """Allocate the rotated weights, and return the correlation's scratch memory."""
    return layout.from_khwio(gpu.empty((g.KH, g.KW, g.C // g.G, g.O), dtype)), conv.workspace(g, dtype)


def forward(x, w, b, y, g, work):
    rotated, scratch = work
    rotated[...] = w[:, :, ::-1, ::-1]
    conv.forward(x, rotated, b, y, g, False, scratch)


def backward_input(dy, w, dx, g, work):
    rotated, scratch = work
    rotated[...] = w[:, :, ::-1, ::-1]
    conv.backward_input(dy, rotated, None, dx, g, scratch)


def backward_weight(dy, x, dw, db, g, work):
    rotated, scratch = work
    conv.backward_weight(dy, x, rotated, db, g, scratch)
    dw[...] = rotated[:, :, ::-1, ::-1]
