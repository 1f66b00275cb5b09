"""The Gram matrix and its gradient as seed 000, section 6.1, writes them."""

from nbprop import jit


def workspace(shape, dtype):
    """Return nothing: plain loops need no scratch memory."""


@jit.reference
def gram_forward(x, y, scale, work):
    """Equation 11: G[i, j] = <X_i, X_j>, times the scale."""
    N, C, H, W = x.shape
    for n in range(N):
        for i in range(C):
            for j in range(C):
                total = 0.0
                for h in range(H):
                    for w in range(W):
                        total += x[n, i, h, w] * x[n, j, h, w]
                y[n, i, j] = scale * total


@jit.reference
def gram_backward(dy, x, dx, scale, work):
    """Equation 14: dX[c, k] = sum over i of (dy[c, i] + dy[i, c]) X[i, k], times the scale."""
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for h in range(H):
                for w in range(W):
                    total = 0.0
                    for i in range(C):
                        total += (dy[n, c, i] + dy[n, i, c]) * x[n, i, h, w]
                    dx[n, c, h, w] = scale * total
