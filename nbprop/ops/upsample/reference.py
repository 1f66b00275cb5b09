"""Resizing as it is written: four elements of x with their weights."""

from nbprop import jit


@jit.reference
def upsample_forward(x, y, rows, columns, linear, work):
    N, C, _, _ = x.shape
    _, _, OH, OW = y.shape
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    h, w = rows.first[oh], columns.first[ow]
                    if not linear:
                        y[n, c, oh, ow] = x[n, c, h, w]
                        continue
                    h2, w2, v, u = rows.second[oh], columns.second[ow], rows.weight[oh], columns.weight[ow]
                    upper = (1 - u) * x[n, c, h, w] + u * x[n, c, h, w2]
                    lower = (1 - u) * x[n, c, h2, w] + u * x[n, c, h2, w2]
                    y[n, c, oh, ow] = (1 - v) * upper + v * lower


@jit.reference
def upsample_backward(dy, dx, rows, columns, linear, work):
    N, C, _, _ = dx.shape
    _, _, OH, OW = dy.shape
    dx[...] = 0
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    d = dy[n, c, oh, ow]
                    h, w = rows.first[oh], columns.first[ow]
                    if not linear:
                        dx[n, c, h, w] += d
                        continue
                    h2, w2, v, u = rows.second[oh], columns.second[ow], rows.weight[oh], columns.weight[ow]
                    dx[n, c, h, w] += (1 - v) * (1 - u) * d
                    dx[n, c, h, w2] += (1 - v) * u * d
                    dx[n, c, h2, w] += v * (1 - u) * d
                    dx[n, c, h2, w2] += v * u * d
