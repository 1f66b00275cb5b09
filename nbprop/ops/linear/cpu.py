"""The linear layer on the CPU: a convolution with a 1x1 kernel over a column of N pixels, or loops for a few rows."""

from nbprop.ops.conv import cpu as conv
from nbprop.ops.flat import flat, same_again
from nbprop.ops.linear import few
from nbprop.ops.linear.as_conv import as_conv
from nbprop.tape import launches

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Allocate the scratch memory that all passes of this geometry share."""
    return conv.workspace(as_conv(g), dtype)


@launches
def forward(x, w, b, y, g, relu, work):
    """Fill y = x w^T + b, or its positive part."""
    if 0 < g.N <= few.ROWS:
        few.forward(x, w.T, same_again(flat(b), b), y, relu)
    else:
        conv.forward(x, w, b, y, as_conv(g), relu, work)


@launches
def backward_input(dy, w, x, dx, g, work):
    """Fill dx = dy w; if x is the output of a ReLU, and not None, its backward pass is done too."""
    if 0 < g.N <= few.ROWS:
        few.backward_input(dy, w.T, x, dx)
    else:
        conv.backward_input(dy, w, x, dx, as_conv(g), work)


@launches
def backward_weight(dy, x, dw, db, g, work):
    """Fill dw = dy^T x and db = sum of dy over rows."""
    if 0 < g.N <= few.ROWS:
        few.backward_weight(dy, x, dw.T, db)
    else:
        conv.backward_weight(dy, x, dw, db, as_conv(g), work)
