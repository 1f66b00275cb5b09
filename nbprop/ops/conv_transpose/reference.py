"""Transposed convolution in plain loops over every index.

`g` is the geometry of the convolution whose adjoint this is: g.C, g.H, g.W are y's sizes, g.O, g.OH, g.OW x's.
Forward scatters x[n, c, i, j] w[c, o, kh, kw] to y[n, o, i SH + kh DH - PH, j SW + kw DW - PW]; each gradient is the
same sum with one factor exchanged for dy.
"""

from nbprop import jit
from nbprop.ops.through_relu import gate

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return nothing: plain loops need no scratch memory."""


@jit.reference
def forward(x, w, b, y, g, relu, work):
    """y = b + the scatter of x through w."""
    CG, OG = g.O // g.G, g.C // g.G
    for n in range(g.N):
        for o in range(g.C):
            y[n, o] = b[o]
        for c in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    for o in range(OG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h, q = i * g.SH + kh * g.DH - g.PH, j * g.SW + kw * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    y[n, c // CG * OG + o, h, q] += x[n, c, i, j] * w[c, o, kh, kw]
        if relu:
            for o in range(g.C):
                for h in range(g.H):
                    for q in range(g.W):
                        y[n, o, h, q] = 0 if y[n, o, h, q] < 0 else y[n, o, h, q]


@jit.reference
def backward_input(dy, w, x, dx, g, work):
    """dx[n, c, i, j] = sum of dy[n, o, i SH + kh DH - PH, ...] w[c, o, kh, kw].

    If x is the output of a ReLU, and not None, its backward pass is done too.
    """
    CG, OG = g.O // g.G, g.C // g.G
    for n in range(g.N):
        for c in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    total = dy.dtype.type(0)
                    for o in range(OG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h, q = i * g.SH + kh * g.DH - g.PH, j * g.SW + kw * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    total += dy[n, c // CG * OG + o, h, q] * w[c, o, kh, kw]
                    dx[n, c, i, j] = total
    gate(dx, x)


@jit.reference
def backward_weight(dy, x, dw, db, g, work):
    """dw[c, o, kh, kw] = sum of x[n, c, i, j] dy[n, o, i SH + kh DH - PH, ...]; db[o] = sum of dy."""
    CG, OG = g.O // g.G, g.C // g.G
    dw[...] = 0
    db[...] = 0
    for n in range(g.N):
        for o in range(g.C):
            for h in range(g.H):
                for q in range(g.W):
                    db[o] += dy[n, o, h, q]
        for c in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    for o in range(OG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h, q = i * g.SH + kh * g.DH - g.PH, j * g.SW + kw * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    dw[c, o, kh, kw] += x[n, c, i, j] * dy[n, c // CG * OG + o, h, q]
