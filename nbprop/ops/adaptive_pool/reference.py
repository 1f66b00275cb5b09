"""Adaptive pooling as it is written; the gradients are those of average and max pooling, window by window."""

import numpy as np

from nbprop import jit


@jit.reference
def _bounds(o, size, windows):
    return int(np.floor(o * size / windows)), int(np.ceil((o + 1) * size / windows))


@jit.reference
def adaptive_avg_pool2d_forward(x, y):
    N, C, H, W = x.shape
    _, _, OH, OW = y.shape
    for oh in range(OH):
        top, bottom = _bounds(oh, H, OH)
        for ow in range(OW):
            left, right = _bounds(ow, W, OW)
            m = (bottom - top) * (right - left)
            for n in range(N):
                for c in range(C):
                    total = 0.0
                    for h in range(top, bottom):
                        for w in range(left, right):
                            total += x[n, c, h, w]
                    y[n, c, oh, ow] = total / m


@jit.reference
def adaptive_avg_pool2d_backward(dy, dx):
    N, C, H, W = dx.shape
    _, _, OH, OW = dy.shape
    dx[...] = 0
    for oh in range(OH):
        top, bottom = _bounds(oh, H, OH)
        for ow in range(OW):
            left, right = _bounds(ow, W, OW)
            m = (bottom - top) * (right - left)
            for n in range(N):
                for c in range(C):
                    for h in range(top, bottom):
                        for w in range(left, right):
                            dx[n, c, h, w] += dy[n, c, oh, ow] / m


@jit.reference
def adaptive_max_pool2d_forward(x, y, indices):
    N, C, H, W = x.shape
    _, _, OH, OW = y.shape
    for oh in range(OH):
        top, bottom = _bounds(oh, H, OH)
        for ow in range(OW):
            left, right = _bounds(ow, W, OW)
            for n in range(N):
                for c in range(C):
                    best, winner = x[n, c, top, left], top * W + left
                    for h in range(top, bottom):
                        for w in range(left, right):
                            v = x[n, c, h, w]
                            if v > best or (np.isnan(v) and not np.isnan(best)):
                                best, winner = v, h * W + w
                    y[n, c, oh, ow] = best
                    indices[n, c, oh, ow] = winner


@jit.reference
def adaptive_max_pool2d_backward(dy, indices, dx):
    N, C, _, W = dx.shape
    _, _, OH, OW = dy.shape
    dx[...] = 0
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    h, w = divmod(indices[n, c, oh, ow], W)
                    dx[n, c, h, w] += dy[n, c, oh, ow]
