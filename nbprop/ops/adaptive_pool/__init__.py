"""Adaptive pooling: windows that divide the image into a given number of rows and columns.

Window oh covers rows floor(oh H / OH) .. ceil((oh + 1) H / OH) - 1: all rows, neighbours sharing at most one.
One window, OH = OW = 1, is global pooling.
"""

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.ops.adaptive_pool.winners import all_in_their_windows

__all__ = [
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool2d_forward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool2d_forward",
]


def adaptive_avg_pool2d_forward(x, output_size):
    """Return the mean of each window of `x`.

        y[n, c, oh, ow] = 1/m  sum of x[n, c, h, w]  over the m positions of window (oh, ow)

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    output_size : int or pair of int or None
        OH and OW; None keeps that size of `x`.

    Returns
    -------
    y : array (N, C, OH, OW), of the dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array, or a size is out of range.

    Source
    ------
    Seed 000, section 3.3 (a heading); windows as in torch. Global pooling: Lin, Chen and Yan 2013, section
    3.2.
    """
    x = shapes.check_array("x", x, 4)
    x, y = layout.channels_last(x), layout.empty(shapes.adaptive_pool2d(x.shape, output_size), x.dtype, x)
    backend.twin("adaptive_pool", x).adaptive_avg_pool2d_forward(x, y)
    return y


def adaptive_avg_pool2d_backward(dy, x_shape):
    """Return the gradient by `x`: every position of a window receives the window's dy divided by m.

        dx[n, c, h, w] = sum of dy[n, c, oh, ow] / m(oh, ow) over the windows that hold (h, w)

    Parameters
    ----------
    dy : array (N, C, OH, OW), float32 or float64
    x_shape : tuple (N, C, H, W)

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes do not fit together.

    Source
    ------
    Seed 001, "Pooling", with its multiplication by m corrected to a division.
    """
    dy = _checked_gradient(dy, x_shape)
    dy, dx = layout.channels_last(dy), layout.empty(x_shape, dy.dtype, dy)
    backend.twin("adaptive_pool", dy).adaptive_avg_pool2d_backward(dy, dx)
    return dx


def adaptive_max_pool2d_forward(x, output_size):
    """Return the maximum of each window of `x`, and the index of the element that it is.

    Of equal elements the first in row order wins; the first NaN wins over all numbers.

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    output_size : int or pair of int or None
        OH and OW; None keeps that size of `x`.

    Returns
    -------
    y : array (N, C, OH, OW), of the dtype of `x`
    indices : array (N, C, OH, OW), int64
        h W + w of each winner in its plane, as in torch.

    Raises
    ------
    ValueError
        If `x` is not such an array, or a size is out of range.

    Source
    ------
    Seed 000, section 3.1, equation 7; windows as in torch.
    """
    x = shapes.check_array("x", x, 4)
    y_shape = shapes.adaptive_pool2d(x.shape, output_size)
    x, y, indices = layout.channels_last(x), layout.empty(y_shape, x.dtype, x), layout.empty(y_shape, np.int32, x)
    backend.twin("adaptive_pool", x).adaptive_max_pool2d_forward(x, y, indices)
    return y, indices.astype(np.int64)


def adaptive_max_pool2d_backward(dy, indices, x_shape):
    """Return the gradient by `x`: each window's dy goes to its winner, and nothing to the others.

    Parameters
    ----------
    dy : array (N, C, OH, OW), float32 or float64
    indices : array (N, C, OH, OW), int64 or int32
        From `adaptive_max_pool2d_forward`.
    x_shape : tuple (N, C, H, W)

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes do not fit together, or an index is not a position of its window (on the GPU the gradient of such
        a one is left out).

    Source
    ------
    Seed 001, "Pooling": the error is assigned to the winning unit.
    """
    dy = _checked_gradient(dy, x_shape)
    if layout.on_gpu(indices):
        indices = layout.gpu().as_array(indices)
    shapes.check_same_place(dy=dy, indices=indices)
    if getattr(indices, "dtype", None) not in (np.int64, np.int32):
        came = getattr(indices, "dtype", type(indices).__name__)
        raise ValueError(f"indices are {came}; expected the int64 array of adaptive_max_pool2d_forward")
    shapes.check_shape("indices", indices, dy.shape)
    indices = layout.channels_last(indices)
    H, W = x_shape[2:]
    # On the GPU the host would wait for the answer.
    if not layout.on_gpu(indices) and not all_in_their_windows(layout.nhwc(indices), H, W):
        raise ValueError(f"indices hold one that is not a position h * {W} + w of its own window; expected "
                         "those that adaptive_max_pool2d_forward returned for the same sizes")
    dy, dx = layout.channels_last(dy), layout.empty(x_shape, dy.dtype, dy)
    twin = backend.twin("adaptive_pool", dy)
    twin.adaptive_max_pool2d_backward(dy, indices.astype(np.int32, copy=False), dx)
    return dx


def _checked_gradient(dy, x_shape):
    dy = shapes.check_array("dy", dy, 4)
    if len(x_shape) != 4 or tuple(x_shape[:2]) != dy.shape[:2]:
        raise ValueError(f"x_shape is {tuple(x_shape)}; expected (N, C, H, W) with the N and C of dy, which "
                         f"has shape {dy.shape}")
    shapes.adaptive_pool2d(x_shape, dy.shape[2:])
    return dy
