"""The Gram matrix on the CPU: the weight gradient of a 1x1 convolution, with x in both places.

Sum over pixels of x[pixel, i] x[pixel, j] is that convolution's dw for dy = x; and (delta + delta^T) X is its
forward pass, as the matrix is symmetric. Images are taken one after another, each on all threads.
"""

from typing import NamedTuple

import numpy as np

from nbprop import layout, shapes
from nbprop.ops.conv import cpu as conv


class Work(NamedTuple):
    """Scratch memory: the convolution's own, its weights (C, C, 1, 1) and two vectors (C,), one of zeros."""

    conv: np.ndarray
    weights: np.ndarray
    zeros: np.ndarray
    unused: np.ndarray


def _as_conv(shape):
    _, C, H, W = shape
    return shapes.conv2d((1, C, H, W), (C, C, 1, 1))


def workspace(shape, dtype):
    """Allocate the scratch memory that both passes share."""
    C = shape[1]
    return Work(conv.workspace(_as_conv(shape), dtype), layout.empty_weights((C, C, 1, 1), dtype),
                layout.zeros((C,), dtype), layout.empty((C,), dtype))


def gram_forward(x, y, scale, work):
    g = _as_conv(x.shape)
    for n in range(len(x)):
        image = x[n : n + 1]
        conv.backward_weight(image, image, layout.from_khwio(y[n, None, None]), work.unused, g, work.conv)
    np.multiply(y, scale, out=y)


def gram_backward(dy, x, dx, scale, work):
    g = _as_conv(x.shape)
    symmetric = work.weights[:, :, 0, 0]
    for n in range(len(x)):
        np.add(dy[n], dy[n].T, out=symmetric)
        np.multiply(symmetric, scale, out=symmetric)
        conv.forward(x[n : n + 1], work.weights, work.zeros, dx[n : n + 1], g, False, work.conv)
