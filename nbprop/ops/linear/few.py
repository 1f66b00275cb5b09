"""A linear layer on a few rows, as in online learning: nothing is packed, as each weight is read once or twice.

    forward          y[n] += x[n, k] w[k]          for four k at a time
    input gradient   dx[n, k] = w[k] . dy[n]
    weight gradient  dw[k] = sum over n of x[n, k] dy[n]

where w[k], the weights of input k, is a row of memory.
"""

import numpy as np

from nbprop import jit
from nbprop.ops import dense, simd
from nbprop.ops.flat import stretch
from nbprop.ops.run_sum import run_dot
from nbprop.ops.through_relu import relu_slope

__all__ = ["ROWS", "backward_input", "backward_weight", "forward"]

# Rows up to which these loops are faster than tiles. One core (Zen 5), 400 x 120 weights, all three passes: 1 row 12 us
# (tiles 32), 2 rows 18 (32), 4 rows 34 (32).
ROWS = 2


@jit.driver
def _forward(x, w, b, y, relu, task, tasks):
    begin, end = stretch(y.shape[1], task, tasks)
    K, floor = w.shape[0], x.dtype.type(0 if relu else -np.inf)
    for n in range(x.shape[0]):
        row, out = x[n], y[n, begin:end]
        simd.copy(b, begin, out, 0, end - begin)
        for k in range(0, K - 3, 4):
            x0, x1, x2, x3 = row[k], row[k + 1], row[k + 2], row[k + 3]
            w0, w1, w2, w3 = w[k, begin:end], w[k + 1, begin:end], w[k + 2, begin:end], w[k + 3, begin:end]
            for o in range(out.size):
                out[o] += (x0 * w0[o] + x1 * w1[o]) + (x2 * w2[o] + x3 * w3[o])
        for k in range(K // 4 * 4, K):
            last = w[k, begin:end]
            for o in range(out.size):
                out[o] += row[k] * last[o]
        for o in range(out.size):
            out[o] = floor if out[o] < floor else out[o]  # NaN stays


def forward(x, w, b, y, relu):
    """Fill y (N, O) from x (N, K) and w (K, O)."""
    _forward(x, w, b, y, relu, dense.worth_threads(2 * x.shape[0] * w.size))


@jit.driver
def _backward_input(dy, w, x, gated, dx, task, tasks):
    begin, end = stretch(w.shape[0], task, tasks)
    for k in range(begin, end):
        for n in range(dy.shape[0]):
            dx[n, k] = run_dot(dy[n], w[k])
            if gated:
                dx[n, k] *= relu_slope(x[n, k])


def backward_input(dy, w, x, dx):
    """Fill dx (N, K), multiplied by ReLU's slope where x is not None but a ReLU's output."""
    gate = dx if x is None else x
    _backward_input(dy, w, gate, x is not None, dx, dense.worth_threads(2 * dy.shape[0] * w.size))


@jit.driver
def _backward_weight(dy, x, dw, db, task, tasks):
    """Fill a task's rows of dw; and db along with the first of all."""
    begin, end = stretch(dw.shape[0], task, tasks)
    N = dy.shape[0]
    for k in range(begin, end):
        row = dw[k]
        for o in range(row.size):
            row[o] = x[0, k] * dy[0, o]
        for n in range(1, N):
            for o in range(row.size):
                row[o] += x[n, k] * dy[n, o]
    if begin == 0 < end:  # one task's alone: others may have no rows
        simd.copy(dy, 0, db, 0, db.size)
        for n in range(1, N):
            for o in range(db.size):
                db[o] += dy[n, o]


def backward_weight(dy, x, dw, db):
    """Fill dw (K, O) and db (O,)."""
    _backward_weight(dy, x, dw, db, dense.worth_threads(2 * x.shape[0] * dw.size))
