"""Convolution as its derivation reads: seed 003, section 3, in plain loops over every index."""

from nbprop import jit
from nbprop.ops.through_relu import gate

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return nothing: plain loops need no scratch memory."""


@jit.reference
def forward(x, w, b, y, g, relu, work):
    """y[n, o, i, j] = b[o] + sum x[n, c, i SH + kh DH - PH, j SW + kw DW - PW] w[o, c, kh, kw]."""
    CG, OG = g.C // g.G, g.O // g.G
    for n in range(g.N):
        for o in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    z = b[o]
                    for c in range(CG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h, q = i * g.SH + kh * g.DH - g.PH, j * g.SW + kw * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    z += x[n, o // OG * CG + c, h, q] * w[o, c, kh, kw]
                    y[n, o, i, j] = 0 if relu and z < 0 else z


@jit.reference
def backward_input(dy, w, x, dx, g, work):
    """Each dy[n, o, i, j] w[o, c, kh, kw] goes back to the x that it was computed from (seed 001, equation 16).

    If x is the output of a ReLU, and not None, its backward pass is done too.
    """
    CG, OG = g.C // g.G, g.O // g.G
    dx[...] = 0
    for n in range(g.N):
        for o in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    for c in range(CG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h, q = i * g.SH + kh * g.DH - g.PH, j * g.SW + kw * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    dx[n, o // OG * CG + c, h, q] += dy[n, o, i, j] * w[o, c, kh, kw]
    gate(dx, x)


@jit.reference
def backward_weight(dy, x, dw, db, g, work):
    """dw[o, c, kh, kw] = sum dy[n, o, i, j] x[...] (seed 003, 3.2.1); db[o] = sum dy[n, o, i, j] (3.1.2)."""
    CG, OG = g.C // g.G, g.O // g.G
    dw[...] = 0
    db[...] = 0
    for n in range(g.N):
        for o in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    db[o] += dy[n, o, i, j]
                    for c in range(CG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h, q = i * g.SH + kh * g.DH - g.PH, j * g.SW + kw * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    dw[o, c, kh, kw] += dy[n, o, i, j] * x[n, o // OG * CG + c, h, q]
