"""The linear layer on the CPU: a convolution with a 1x1 kernel over a column of N pixels."""

import functools

from nbprop import shapes
from nbprop.ops.conv import cpu as conv

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


@functools.lru_cache(maxsize=512)
def _as_conv(g):
    return shapes.Conv2d(N=g.N, C=g.K, H=1, W=1, O=g.O, KH=1, KW=1, SH=1, SW=1, PH=0, PW=0, DH=1, DW=1, G=1, OH=1, OW=1)


def _pixels(rows):
    """View (N, features) as (N, features, 1, 1)."""
    return rows[:, :, None, None]


def workspace(g, dtype):
    """Allocate the scratch memory that all passes of this geometry share."""
    return conv.workspace(_as_conv(g), dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = x w^T + b, or its positive part."""
    conv.forward(_pixels(x), _pixels(w), b, _pixels(y), _as_conv(g), relu, work)


def backward_input(dy, w, dx, g, work):
    """Fill dx = dy w."""
    conv.backward_input(_pixels(dy), _pixels(w), _pixels(dx), _as_conv(g), work)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw = dy^T x and db = sum of dy over rows."""
    conv.backward_weight(_pixels(dy), _pixels(x), _pixels(dw), db, _as_conv(g), work)
