"""Transposed convolution on the GPU: convolution's passes with x and y exchanged.

`g` is the geometry of the convolution whose adjoint this is: g.C, g.H, g.W are y's sizes, g.O, g.OH, g.OW x's.
"""

from nbprop import gpu, layout
from nbprop.ops import cuda_outer
from nbprop.ops.conv import cuda as conv
from nbprop.ops.conv.cuda_adjoint import adjoint
from nbprop.ops.cuda_gate import gate

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return convolution's scratch memory, the bias gradient's, and a vector that nothing reads."""
    return conv.workspace(g, dtype), gpu.Scratch(dtype), gpu.empty((g.O,), dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = b + A^T x, or its positive part."""
    adjoint(x, w, b, y, g, relu)


def backward_input(dy, w, x, dx, g, work):
    """Fill dx = A dy, a plain convolution; times the slope of the ReLU whose output x is, if not None."""
    conv.forward(dy, w, None, dx, g, False, work[0])
    gate(dx, x)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw, the weight gradient of the convolution of dy whose output gradient is x; and db, the sum of dy."""
    conv.backward_weight(x, dy, dw, work[2], g, work[0])
    cuda_outer.sum_rows(layout.nhwc(dy).reshape(-1, g.C), db, work[1])
