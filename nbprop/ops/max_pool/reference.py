"""Max pooling as it is written: look at every element of the window, keep the first largest."""

import numpy as np

from nbprop import jit
from nbprop.ops.through_relu import through_relu


@jit.reference
def max_pool2d_forward(x, y, indices, kernel, stride, padding, dilation):
    N, C, H, W = x.shape
    _, _, OH, OW = y.shape
    (KH, KW), (SH, SW), (PH, PW), (DH, DW) = kernel, stride, padding, dilation
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    best = -np.inf
                    winner = -1
                    for kh in range(KH):
                        for kw in range(KW):
                            h = oh * SH - PH + kh * DH
                            w = ow * SW - PW + kw * DW
                            if 0 <= h < H and 0 <= w < W:
                                v = x[n, c, h, w]
                                # The first stands until a larger one comes, or a NaN, which then stays.
                                larger = v > best or (np.isnan(v) and not np.isnan(best))
                                if winner < 0 or larger:
                                    best = v
                                    winner = h * W + w
                    y[n, c, oh, ow] = best
                    indices[n, c, oh, ow] = winner


@jit.reference
def max_pool2d_backward(dy, indices, y, dx, kernel, stride, padding, dilation):
    """Fill dx; y is the output where a ReLU stands before or behind the pooling, else None.

    Each output is one of the ReLU's, or of its inputs: the slope may be taken at the outputs, which are fewer.
    """
    N, C, _, W = dx.shape
    _, _, OH, OW = dy.shape
    dx[...] = 0
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    h, w = divmod(indices[n, c, oh, ow], W)
                    dx[n, c, h, w] += through_relu(dy, y, (n, c, oh, ow))
