"""Transposed convolution on the CPU: convolution's passes with x and y exchanged.

`g` is the geometry of the convolution whose adjoint this is: g.C, g.H, g.W are y's sizes, g.O, g.OH, g.OW x's.
"""

import numpy as np
from numba import prange

from nbprop import jit, layout
from nbprop.ops.conv import cpu as conv

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

_CHUNKS = 32  # parts of the pixels whose bias gradients are summed apart, and then in order


def workspace(g, dtype):
    """Allocate the memory that the three passes share: convolution's, and the partial sums of the bias."""
    size = np.dtype(dtype).itemsize
    return conv.workspace(g, dtype), np.zeros(g.O, dtype), layout.empty((_CHUNKS, -(-g.C // (64 // size)) * (64 // size)), dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = b + A^T x, or its positive part."""
    conv.adjoint(x, w, b, y, g, relu, work[0])


def backward_input(dy, w, dx, g, work):
    """Fill dx = A dy, a plain convolution."""
    work[1][:] = 0
    conv.forward(dy, w, work[1], dx, g, False, work[0])


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw, the weight gradient of the convolution of dy whose output gradient is x; and db, the sum of dy."""
    conv.backward_weight(x, dy, dw, work[1], g, work[0])
    rows = layout.nhwc(dy).reshape(-1, g.C)
    _sum_chunks(rows, work[2])
    np.sum(work[2][:, : g.C], axis=0, out=db)


@jit.driver
def _sum_chunks(rows, partials):
    """Sum a fixed share of the pixels into each row of `partials`."""
    chunks = partials.shape[0]
    for chunk in prange(chunks):
        _sum_rows(rows, partials[chunk], chunk * rows.shape[0] // chunks, (chunk + 1) * rows.shape[0] // chunks)


@jit.kernel
def _sum_rows(rows, sums, first, last):
    sums[:] = 0
    for r in range(first, last):
        row = rows[r]
        for c in range(row.size):
            sums[c] += row[c]
