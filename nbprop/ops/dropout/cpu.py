"""Dropout in one pass: the hash costs less than reading a stored mask, so both passes compute it."""

import numpy as np

from nbprop import jit
from nbprop.ops.dropout.mask import BLOCK, block_key, draw, drop_below
from nbprop.ops.flat import share, tasks


@jit.kernel
def _drop_block(x, y, low, high, threshold, scale):
    zero = x.dtype.type(0)
    for j in range(x.size):
        # A product, not a choice of x or 0: NaN stays NaN.
        y[j] = x[j] * (scale if draw(low, high, np.uint32(j)) >= threshold else zero)


@jit.driver
def _drop_blocks(x, y, p, seed, step, task, tasks):
    begin, end = share(-(-x.size // BLOCK), task, tasks)
    scale = x.dtype.type(1 / (1 - p) if p < 1 else 0.0)
    for block in range(begin, end):
        low, high = block_key(seed, step, block)
        part = slice(block * BLOCK, min((block + 1) * BLOCK, x.size))
        _drop_block(x[part], y[part], low, high, drop_below(p), scale)


def dropout_forward(x, y, p, seed, step):
    _drop_blocks(x, y, p, seed, step, tasks(x.size))


def dropout_backward(dy, dx, p, seed, step):
    dropout_forward(dy, dx, p, seed, step)
