"""The linear layer on the CPU: a convolution with a 1x1 kernel over a column of N pixels, or loops for a few rows."""

from nbprop.ops.conv import cpu as conv
from nbprop.ops.linear import few
from nbprop.ops.linear.as_conv import as_conv
from nbprop.repeat import settles

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Allocate the scratch memory that all passes of this geometry share."""
    return conv.workspace(as_conv(g), dtype)


@settles
def forward(x, w, b, y, g, relu, work):
    """Fill y = x w^T + b, or its positive part."""
    if 0 < g.N <= few.ROWS:
        return few.forward.settle(x, w.T, b, y, relu)
    return conv.forward.settle(x, w, b, y, as_conv(g), relu, work)


@settles
def backward_input(dy, w, x, dx, g, work):
    """Fill dx = dy w; if x is the output of a ReLU, and not None, its backward pass is done too."""
    if 0 < g.N <= few.ROWS:
        return few.backward_input.settle(dy, w.T, x, dx)
    return conv.backward_input.settle(dy, w, x, dx, as_conv(g), work)


@settles
def backward_weight(dy, x, dw, db, g, work):
    """Fill dw = dy^T x and db = sum of dy over rows."""
    if 0 < g.N <= few.ROWS:
        return few.backward_weight.settle(dy, x, dw.T, db)
    return conv.backward_weight.settle(dy, x, dw, db, as_conv(g), work)
