"""Windows as columns on the GPU: each element of the result gathers what belongs there."""

from nbprop import gpu, layout
from nbprop.gpu import cuda


def im2col(x, columns, g):
    if columns.size:
        _im2col[gpu.blocks(columns.size), gpu.THREADS](layout.nhwc(x), columns.reshape(-1), _window(g), (g.OH, g.OW))


def col2im(columns, x, g):
    N, C, _, _ = x.shape
    if x.size:
        lines = columns.reshape(N, C * g.KH * g.KW, g.OH * g.OW)
        _col2im[gpu.blocks(x.size), gpu.THREADS](lines, layout.nhwc(x), _window(g), (g.OH, g.OW))


def _window(g):
    return g.KH, g.KW, g.SH, g.SW, g.PH, g.PW, g.DH, g.DW


@gpu.kernel
def _im2col(x, columns, window, windows):
    KH, KW, SH, SW, PH, PW, DH, DW = window
    OH, OW = windows
    _, H, W, C = x.shape
    for i in range(cuda.grid(1), columns.size, cuda.gridsize(1)):
        ow, rest = i % OW, i // OW
        oh, rest = rest % OH, rest // OH
        kw, rest = rest % KW, rest // KW
        kh, rest = rest % KH, rest // KH
        h, w = oh * SH + kh * DH - PH, ow * SW + kw * DW - PW
        inside = h >= 0 and h < H and w >= 0 and w < W
        columns[i] = x[rest // C, h, w, rest % C] if inside else 0


@gpu.kernel
def _col2im(columns, x, window, windows):
    KH, KW, SH, SW, PH, PW, DH, DW = window
    OH, OW = windows
    _, H, W, C = x.shape
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c, rest = i % C, i // C
        w, rest = rest % W, rest // W
        h, n = rest % H, rest // H
        total = x.dtype.type(0)
        for kh in range(KH):
            down = h + PH - kh * DH
            if down >= 0 and down % SH == 0 and down // SH < OH:
                for kw in range(KW):
                    right = w + PW - kw * DW
                    if right >= 0 and right % SW == 0 and right // SW < OW:
                        total += columns[n, (c * KH + kh) * KW + kw, down // SH * OW + right // SW]
        x[n, h, w, c] = total
