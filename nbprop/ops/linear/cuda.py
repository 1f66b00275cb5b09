"""The linear layer on the GPU: a convolution with a 1x1 kernel over a column of N pixels."""

from nbprop.ops.conv import cuda as conv
from nbprop.ops.linear.as_conv import as_conv, pixels

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return the scratch memory that all passes of this geometry share."""
    return conv.workspace(as_conv(g), dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = x w^T + b, or its positive part."""
    conv.forward(pixels(x), pixels(w), b, pixels(y), as_conv(g), relu, work)


def backward_input(dy, w, x, dx, g, work):
    """Fill dx = dy w; if x is the output of a ReLU, and not None, its backward pass is done too."""
    conv.backward_input(pixels(dy), pixels(w), None if x is None else pixels(x), pixels(dx), as_conv(g), work)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw = dy^T x and db = sum of dy over rows."""
    conv.backward_weight(pixels(dy), pixels(x), pixels(dw), db, as_conv(g), work)
