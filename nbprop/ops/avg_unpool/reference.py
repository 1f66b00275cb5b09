"""Average unpooling as it is written: y = A x with A[p, o] = s(p, o) where window o holds position p, else 0.

    copy      s(p, o) = 1 / (number of windows that hold p)
    adjoint   s(p, o) = 1 / (number of positions of window o in the padded plane)

y is linear in x, so its gradient is the adjoint, dx[o] = sum over p of A[p, o] dy[p]: the same loops with x
and y exchanged. With "adjoint", A is the transpose of average pooling, and so dx the average pooling of dy.
"""

from nbprop import jit


@jit.reference
def _share(o, p, planes, kernel, stride, padding, copy):
    """Return s(p, o), 0 where window o = (oh, ow) does not hold p = (h, w)."""
    (oh, ow), (h, w), (H, W, OH, OW) = o, p, planes
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, padding
    top, left = oh * SH - PH, ow * SW - PW
    if not (top <= h < top + KH and left <= w < left + KW):
        return 0.0
    count = 0
    if copy:
        for i in range(OH):
            for j in range(OW):
                count += 0 <= h - (i * SH - PH) < KH and 0 <= w - (j * SW - PW) < KW
    else:
        for i in range(top, top + KH):
            for j in range(left, left + KW):
                count += -PH <= i < H + PH and -PW <= j < W + PW
    return 1 / count


@jit.reference
def avg_unpool2d_forward(x, y, kernel, stride, padding, copy):
    N, C, OH, OW = x.shape
    _, _, H, W = y.shape
    y[...] = 0
    for h in range(H):
        for w in range(W):
            for oh in range(OH):
                for ow in range(OW):
                    s = _share((oh, ow), (h, w), (H, W, OH, OW), kernel, stride, padding, copy)
                    if s > 0:
                        for n in range(N):
                            for c in range(C):
                                y[n, c, h, w] += x[n, c, oh, ow] * s


@jit.reference
def avg_unpool2d_backward(dy, dx, kernel, stride, padding, copy):
    N, C, OH, OW = dx.shape
    _, _, H, W = dy.shape
    dx[...] = 0
    for h in range(H):
        for w in range(W):
            for oh in range(OH):
                for ow in range(OW):
                    s = _share((oh, ow), (h, w), (H, W, OH, OW), kernel, stride, padding, copy)
                    if s > 0:
                        for n in range(N):
                            for c in range(C):
                                dx[n, c, oh, ow] += dy[n, c, h, w] * s
