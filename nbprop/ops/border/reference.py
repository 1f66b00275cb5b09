"""Borders as they are written: every position of y shows one position of x, or the constant."""

from nbprop import jit
from nbprop.ops.border.source import source


@jit.reference
def border_forward(x, y, padding, mode, value):
    N, C, H, W = x.shape
    _, _, OH, OW = y.shape
    left, right, top, bottom = padding
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    h = source(oh, H, top, bottom, mode)
                    w = source(ow, W, left, right, mode)
                    y[n, c, oh, ow] = value if h < 0 or w < 0 else x[n, c, h, w]


@jit.reference
def border_backward(dy, dx, padding, mode):
    N, C, H, W = dx.shape
    _, _, OH, OW = dy.shape
    left, right, top, bottom = padding
    dx[...] = 0
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    h = source(oh, H, top, bottom, mode)
                    w = source(ow, W, left, right, mode)
                    if h >= 0 and w >= 0:
                        dx[n, c, h, w] += dy[n, c, oh, ow]
