"""Max unpooling on the GPU. Of the elements with one position the last stands: an atomic maximum of their numbers
finds it, whatever the order of threads.

Forward the owners' numbers lie in y itself, as integers, until the values replace them. A position outside the
plane is left out.
"""

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import split
from nbprop.ops.flat import flat


def max_unpool2d_forward(x, indices, y):
    if not y.size:
        return
    owners = flat(y).view(np.int32 if y.dtype == np.float32 else np.int64)
    sizes = _sizes(x, y)
    _disown[gpu.blocks(y.size), gpu.THREADS](owners)
    _own[gpu.blocks(max(x.size, 1)), gpu.THREADS](flat(indices), owners, sizes)
    _place[gpu.blocks(y.size), gpu.THREADS](flat(x), owners, flat(y), sizes)


def max_unpool2d_backward(dy, indices, owners, dx):
    if not dx.size:
        return
    blocks, sizes = gpu.blocks(dx.size), _sizes(dx, dy)
    _disown[gpu.blocks(owners.size), gpu.THREADS](flat(owners))
    _own[blocks, gpu.THREADS](flat(indices), flat(owners), sizes)
    _take[blocks, gpu.THREADS](flat(dy), flat(indices), flat(owners), flat(dx), sizes)


def _sizes(windows, plane):
    """Return C, the windows of an image, and the positions of a plane."""
    return tuple(map(np.int32, (plane.shape[1], windows.shape[2] * windows.shape[3], plane.shape[2] * plane.shape[3])))


@gpu.kernel
def _disown(owners):
    for i in range(cuda.grid(1), owners.size, cuda.gridsize(1)):
        owners[i] = -1


@gpu.kernel
def _own(indices, owners, sizes):
    """Note for each position the last element of its plane that goes there."""
    C, O, P = sizes
    for i in range(cuda.grid(1), indices.size, cuda.gridsize(1)):
        pixel, c = i // C, i % C
        n, o = split(pixel, O)
        p = indices[i]
        if 0 <= p < P:
            cuda.atomic.max(owners, (n * P + p) * C + c, o)


@gpu.kernel
def _place(x, owners, y, sizes):
    C, O, P = sizes
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        pixel, c = i // C, i % C
        o = owners[i]
        value = y.dtype.type(0)
        if o >= 0:
            value = x[(pixel // P * O + o) * C + c]
        y[i] = value


@gpu.kernel
def _take(dy, indices, owners, dx, sizes):
    C, O, P = sizes
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        pixel, c = i // C, i % C
        n, o = split(pixel, O)
        p = indices[i]
        value = dx.dtype.type(0)
        if 0 <= p < P:
            at = (n * P + p) * C + c
            if owners[at] == o:
                value = dy[at]
        dx[i] = value
