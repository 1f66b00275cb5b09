"""Windows as columns, and back, as they are written: one element at a time."""

from nbprop import jit


@jit.reference
def im2col(x, columns, g):
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for kh in range(g.KH):
                for kw in range(g.KW):
                    for oh in range(g.OH):
                        for ow in range(g.OW):
                            h, w = oh * g.SH + kh * g.DH - g.PH, ow * g.SW + kw * g.DW - g.PW
                            row = (c * g.KH + kh) * g.KW + kw
                            inside = 0 <= h < H and 0 <= w < W
                            columns[n, row, oh * g.OW + ow] = x[n, c, h, w] if inside else 0


@jit.reference
def col2im(columns, x, g):
    N, C, H, W = x.shape
    x[...] = 0
    for n in range(N):
        for c in range(C):
            for kh in range(g.KH):
                for kw in range(g.KW):
                    for oh in range(g.OH):
                        for ow in range(g.OW):
                            h, w = oh * g.SH + kh * g.DH - g.PH, ow * g.SW + kw * g.DW - g.PW
                            if 0 <= h < H and 0 <= w < W:
                                x[n, c, h, w] += columns[n, (c * g.KH + kh) * g.KW + kw, oh * g.OW + ow]
