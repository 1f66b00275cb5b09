"""The Gram matrix on the GPU: products as convolution's, the images in the place of its groups.

Sum over pixels of x[pixel, i] x[pixel, j] is a weight gradient for dy = x; and (delta + delta^T) X is a 1x1
convolution, as the matrix is symmetric.
"""

from typing import NamedTuple

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops import cuda_correlate, cuda_outer
from nbprop.ops.dense import Correlation
from nbprop.ops.flat import flat


class Work(NamedTuple):
    """Scratch memory: the parts of the sums over pixels, and the symmetric matrices."""

    parts: gpu.Scratch
    symmetric: gpu.Scratch


def workspace(shape, dtype):
    """Return the scratch memory that both passes share."""
    return Work(gpu.Scratch(dtype), gpu.Scratch(dtype))


def gram_forward(x, y, scale, work):
    N, C, H, W = x.shape
    if N:
        images, matrices = flat(x), flat(y)
        groups = cuda_outer.Groups(C, H * W * C, H * W * C, C * C)
        cuda_outer.run(images, images, matrices, matrices[:0], _each_image(x), C, groups, work.parts, scale)


def gram_backward(dy, x, dx, scale, work):
    N, C, H, W = x.shape
    if N:
        symmetric = work.symmetric.room(dy.size)
        _symmetric[gpu.blocks(dy.size), gpu.THREADS](dy, symmetric, scale)
        groups = cuda_correlate.Groups(C, H * W * C, C * C, H * W * C)
        least = x.dtype.type("-inf")
        cuda_correlate.correlate(flat(x), symmetric, None, flat(dx), _each_image(x), least, groups=groups)


def _each_image(x):
    """Return a 1x1 convolution of every image with weights of its own."""
    N, C, H, W = x.shape
    return Correlation(N=1, H=H * W, W=1, C=C, G=N, CG=C, OG=C, KH=1, KW=1, SH=1, SW=1, DH=1, DW=1, TOP=0, LEFT=0,
                       OH=H * W, OW=1, Y0=0, YN=0, YH=C, YW=C)


@gpu.kernel
def _symmetric(dy, made, scale):
    N, C, _ = dy.shape
    for i in range(cuda.grid(1), N * C * C, cuda.gridsize(1)):
        n, row, column = i // (C * C), i // C % C, i % C
        made[i] = (dy[n, row, column] + dy[n, column, row]) * scale
