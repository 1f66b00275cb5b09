"""True convolution as seed 001, equation 2, writes it: the kernel runs backwards."""

from nbprop import jit


def workspace(g, dtype):
    """Return nothing: plain loops need no scratch memory."""


@jit.reference
def forward(x, w, b, y, g, work):
    """y[n, o, i, j] = b[o] + sum x[n, c, i' - m D, j' - m' D] w[o, c, m, m'], i' = i S + D(K-1) - P."""
    CG, OG = g.C // g.G, g.O // g.G
    for n in range(g.N):
        for o in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    y[n, o, i, j] = b[o]
                    for c in range(CG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h = i * g.SH + (g.KH - 1 - kh) * g.DH - g.PH
                                q = j * g.SW + (g.KW - 1 - kw) * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    y[n, o, i, j] += x[n, o // OG * CG + c, h, q] * w[o, c, kh, kw]


@jit.reference
def backward_input(dy, w, dx, g, work):
    """Each dy[n, o, i, j] w[o, c, kh, kw] goes back to the x that it was computed from."""
    CG, OG = g.C // g.G, g.O // g.G
    dx[...] = 0
    for n in range(g.N):
        for o in range(g.O):
            for i in range(g.OH):
                for j in range(g.OW):
                    for c in range(CG):
                        for kh in range(g.KH):
                            for kw in range(g.KW):
                                h = i * g.SH + (g.KH - 1 - kh) * g.DH - g.PH
                                q = j * g.SW + (g.KW - 1 - kw) * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    dx[n, o // OG * CG + c, h, q] += dy[n, o, i, j] * w[o, c, kh, kw]


@jit.reference
def backward_weight(dy, x, dw, db, g, work):
    """dw[o, c, kh, kw] = sum dy[n, o, i, j] x[...]; db[o] = sum dy[n, o, i, j]."""
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
                                h = i * g.SH + (g.KH - 1 - kh) * g.DH - g.PH
                                q = j * g.SW + (g.KW - 1 - kw) * g.DW - g.PW
                                if 0 <= h < g.H and 0 <= q < g.W:
                                    dw[o, c, kh, kw] += dy[n, o, i, j] * x[n, o // OG * CG + c, h, q]
