"""Windows as columns, and back, as they are written: one element at a time."""

from nbprop import jit

__all__ = ["col2im", "im2col"]


@jit.reference
def im2col(x, columns, g):
    N, C, H, W = x.shape
    (KH, KW), (SH, SW), (PH, PW), (DH, DW) = g.kernel, g.stride, g.padding, g.dilation
    for n in range(N):
        for c in range(C):
            for kh in range(KH):
                for kw in range(KW):
                    for oh in range(g.OH):
                        for ow in range(g.OW):
                            h, w = oh * SH + kh * DH - PH, ow * SW + kw * DW - PW
                            row = (c * KH + kh) * KW + kw
                            inside = 0 <= h < H and 0 <= w < W
                            columns[n, row, oh * g.OW + ow] = x[n, c, h, w] if inside else 0


@jit.reference
def col2im(columns, x, g):
    N, C, H, W = x.shape
    (KH, KW), (SH, SW), (PH, PW), (DH, DW) = g.kernel, g.stride, g.padding, g.dilation
    x[...] = 0
    for n in range(N):
        for c in range(C):
            for kh in range(KH):
                for kw in range(KW):
                    for oh in range(g.OH):
                        for ow in range(g.OW):
                            h, w = oh * SH + kh * DH - PH, ow * SW + kw * DW - PW
                            if 0 <= h < H and 0 <= w < W:
                                x[n, c, h, w] += columns[n, (c * KH + kh) * KW + kw, oh * g.OW + ow]
