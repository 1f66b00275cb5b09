"""Max pooling: the largest element of each window, and where it stood."""

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.ops.max_pool.winners import all_in_their_windows

__all__ = ["max_pool2d_backward", "max_pool2d_forward"]


def max_pool2d_forward(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Return the maximum of each window of `x`, and the index of the element that it is.

        y[n, c, oh, ow] = max over kh, kw of x[n, c, oh SH - PH + kh DH, ow SW - PW + kw DW]

    Of equal elements the first in row order wins. The first NaN wins over all numbers. Padding never wins.

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    kernel_size, stride, padding, dilation : int or pair of int
        The stride is `kernel_size` if None. Padding is at most half of `kernel_size`.
    ceil_mode : bool
        Keep a last window that hangs over the far edge, if it starts inside.

    Returns
    -------
    y : array (N, C, OH, OW), of the dtype of `x`
    indices : array (N, C, OH, OW), int64
        h W + w of each winner in its plane, as in torch. Inside (twins and layers) they are int32: half the
        memory to move, and as many lanes as float32.

    Raises
    ------
    ValueError
        If `x` is not such an array, a size is out of range, or a window would hold no element of `x`.

    Source
    ------
    Seed 000, section 3.1, equation 7. The treatment of ties, NaN and padding is ours (the seeds are silent).
    """
    x = shapes.check_array("x", x, 4)
    g = shapes.max_pool2d(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    x = layout.channels_last(x)
    y, indices = layout.empty(g.y_shape, x.dtype, x), layout.empty(g.y_shape, np.int32, x)
    backend.twin("max_pool", x).max_pool2d_forward(x, y, indices, g.kernel, g.stride, g.padding, g.dilation)
    return y, indices.astype(np.int64)


def max_pool2d_backward(dy, indices, x_shape, kernel_size, stride=None, padding=0, dilation=1,
                        ceil_mode=False):
    """Return the gradient by `x`: each window's dy goes to its winner, and nothing to the others.

        dx[n, c, h, w] = sum of dy[n, c, oh, ow] over the windows with indices[n, c, oh, ow] = h W + w

    Parameters
    ----------
    dy : array (N, C, OH, OW), float32 or float64
    indices : array (N, C, OH, OW), int64 or int32
        From `max_pool2d_forward`.
    x_shape : tuple (N, C, H, W)
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass.

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
    Seed 001, "Pooling": the error is assigned to where it comes from, the winning unit; and its table of
    forward and backward pairs, row Max.
    """
    dy = shapes.check_array("dy", dy, 4)
    g = shapes.max_pool2d(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    shapes.check_shape("dy", dy, g.y_shape)
    indices = _checked(indices, g)
    shapes.check_same_place(dy=dy, indices=indices)
    dy = layout.channels_last(dy)
    dx = layout.empty(g.x_shape, dy.dtype, dy)
    twin = backend.twin("max_pool", dy)
    twin.max_pool2d_backward(dy, indices, None, dx, g.kernel, g.stride, g.padding, g.dilation)
    return dx


def _checked(indices, g):
    """Return a caller's indices as the twins read them: int32, channels-last.

    Those on the GPU are not looked into, as the host would wait for it: there one outside its window wins nothing.
    """
    if layout.on_gpu(indices):
        indices = layout.gpu().as_array(indices)
    if getattr(indices, "dtype", None) not in (np.int64, np.int32):
        came = getattr(indices, "dtype", type(indices).__name__)
        raise ValueError(f"indices are {came}; expected the int64 array that max_pool2d_forward returned")
    shapes.check_shape("indices", indices, g.y_shape)
    indices = layout.channels_last(indices)
    if layout.on_gpu(indices):
        return indices.astype(np.int32, copy=False)
    if not all_in_their_windows(layout.nhwc(indices), g.H, g.W, g.kernel, g.stride, g.padding, g.dilation):
        raise ValueError(f"indices hold one that is not a position h * {g.W} + w of its own window; expected "
                         "those that max_pool2d_forward returned for the same sizes")
    return indices.astype(np.int32, copy=False)
