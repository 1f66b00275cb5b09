"""Dropout on the GPU: the CPU's mask, bit for bit. A block of threads takes a block of the hash, and its key once."""

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.dropout.mask import BLOCK, block_key, draw, drop_below


def dropout_forward(x, y, p, seed, step):
    if x.size:
        scale = x.dtype.type(1 / (1 - p) if p < 1 else 0.0)
        grid = min(-(-x.size // BLOCK), 1 << 16)
        _drop[grid, gpu.THREADS](x, y, np.uint32(drop_below(p)), scale, np.int64(seed), np.int64(step))


def dropout_backward(dy, dx, p, seed, step):
    dropout_forward(dy, dx, p, seed, step)


@gpu.kernel
def _drop(x, y, threshold, scale, seed, step):
    zero = x.dtype.type(0)
    for block in range(cuda.blockIdx.x, (x.size + BLOCK - 1) // BLOCK, cuda.gridDim.x):
        low, high = block_key(seed, step, block)
        for j in range(cuda.threadIdx.x, min(BLOCK, x.size - block * BLOCK), cuda.blockDim.x):
            i = block * BLOCK + j
            # A product, not a choice of x or 0: NaN stays NaN.
            y[i] = x[i] * (scale if draw(low, high, np.uint32(j)) >= threshold else zero)
