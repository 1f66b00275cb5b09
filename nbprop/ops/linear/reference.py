"""The linear layer as its derivation reads: seed 003, section 2."""

from nbprop import jit
from nbprop.ops.through_relu import gate

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return nothing: plain loops need no scratch memory."""


@jit.reference
def forward(x, w, b, y, g, relu, work):
    """z[n, o] = sum over k of x[n, k] w[o, k] + b[o]."""
    for n in range(g.N):
        for o in range(g.O):
            z = b[o]
            for k in range(g.K):
                z += x[n, k] * w[o, k]
            y[n, o] = 0 if relu and z < 0 else z


@jit.reference
def backward_input(dy, w, x, dx, g, work):
    """dx[n, k] = <dy[n, :], w[:, k]> (section 2.3); if x is the output of a ReLU, and not None, times its slope."""
    for n in range(g.N):
        for k in range(g.K):
            total = dy.dtype.type(0)
            for o in range(g.O):
                total += dy[n, o] * w[o, k]
            dx[n, k] = total
    gate(dx, x)


@jit.reference
def backward_weight(dy, x, dw, db, g, work):
    """dw[o, k] = <dy[:, o], x[:, k]> (section 2.1); db[o] = sum over n of dy[n, o] (section 2.2)."""
    for o in range(g.O):
        for k in range(g.K):
            total = x.dtype.type(0)
            for n in range(g.N):
                total += dy[n, o] * x[n, k]
            dw[o, k] = total
    for o in range(g.O):
        db[o] = 0
        for n in range(g.N):
            db[o] += dy[n, o]
