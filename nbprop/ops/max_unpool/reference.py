"""Max unpooling as it is written, and its gradient.

y = sum over o of x[o] e(indices[o]), with e(p) the unit vector of position p, over those o that no later one
replaces. That is linear in x, so the gradient is its adjoint: dx[o] = <e(indices[o]), dy> = dy[indices[o]]
for these o, and 0 for the others.
"""

from nbprop import jit


@jit.reference
def max_unpool2d_forward(x, indices, y):
    N, C, OH, OW = x.shape
    W = y.shape[3]
    y[...] = 0
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    h, w = divmod(indices[n, c, oh, ow], W)
                    y[n, c, h, w] = x[n, c, oh, ow]


@jit.reference
def max_unpool2d_backward(dy, indices, owners, dx):
    N, C, OH, OW = dx.shape
    W = dy.shape[3]
    for n in range(N):
        for c in range(C):
            for o in range(OH * OW):
                oh, ow = divmod(o, OW)
                h, w = divmod(indices[n, c, oh, ow], W)
                dx[n, c, oh, ow] = dy[n, c, h, w]
                for later in range(o + 1, OH * OW):
                    if indices[n, c, later // OW, later % OW] == indices[n, c, oh, ow]:
                        dx[n, c, oh, ow] = 0
