"""Dropout as it is written: one element after another, each with its own random number."""

from nbprop import jit
from nbprop.ops.dropout.mask import BLOCK, block_key, draw, drop_below


@jit.reference
def dropout_forward(x, y, p, seed, step):
    scale = 1 / (1 - p) if p < 1 else 0.0
    for i in range(x.size):
        low, high = block_key(seed, step, i // BLOCK)
        kept = draw(low, high, i % BLOCK) >= drop_below(p)
        y[i] = x[i] * x.dtype.type(scale if kept else 0)


@jit.reference
def dropout_backward(dy, dx, p, seed, step):
    # dy_i/dx_i is the same factor: 1/(1 - p) where kept, 0 where dropped.
    dropout_forward(dy, dx, p, seed, step)
