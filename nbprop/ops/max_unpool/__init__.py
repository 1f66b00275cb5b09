"""Max unpooling: each value goes back to where max pooling found it."""

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.ops.max_unpool.positions import first_outside

__all__ = ["checked_positions", "max_unpool2d_backward", "max_unpool2d_forward"]


def max_unpool2d_forward(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Put each element of `x` at its position of a plane of zeros.

        y[n, c, h, w] = x[n, c, oh, ow]  where indices[n, c, oh, ow] = h W + w, else 0

    Of several elements with one position the last in row order stands (as after max pooling with windows that
    overlap; they are then equal).

    Parameters
    ----------
    x : array (N, C, OH, OW), float32 or float64
    indices : array (N, C, OH, OW), int64 or int32
        From `max_pool2d_forward`, or any positions in the plane.
    kernel_size, stride, padding : int or pair of int
        Of the max pooling: they say how large the plane is.
    output_size : tuple (H, W) or (N, C, H, W), optional
        The plane, where several sizes pool to that of `x`; the smallest full one,
        (OH - 1) SH - 2 PH + KH by (OW - 1) SW - 2 PW + KW, if None.

    Returns
    -------
    y : array (N, C, H, W), of the dtype of `x`

    Raises
    ------
    ValueError
        If shapes do not fit together, or an index is outside the plane (on the GPU its element is left out).

    Source
    ------
    Seed 000, section 3.2 (a heading: the formula is ours). Zeiler and Fergus 2014, section 2.1.
    """
    x = shapes.check_array("x", x, 4)
    g = shapes.unpool2d(x.shape, kernel_size, stride, padding, output_size)
    indices = checked_positions(indices, g)
    shapes.check_same_place(x=x, indices=indices)
    y = layout.empty(g.x_shape, x.dtype, x)
    backend.twin("max_unpool", x).max_unpool2d_forward(layout.channels_last(x), indices, y)
    return y


def max_unpool2d_backward(dy, indices, kernel_size, stride=None, padding=0):
    """Return the gradient by `x`: each element takes dy from where it was put.

        dx[n, c, oh, ow] = dy[n, c, h, w]  with h W + w = indices[n, c, oh, ow]

    An element that a later one with the same position replaced takes 0: y does not depend on it. (torch gives
    dy to each of them, which is the gradient of a sum that its forward pass does not take.)

    Parameters
    ----------
    dy : array (N, C, H, W), float32 or float64
    indices : array (N, C, OH, OW), int64 or int32
    kernel_size, stride, padding : int or pair of int
        As in the forward pass.

    Returns
    -------
    dx : array (N, C, OH, OW), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes do not fit together, or an index is outside the plane (on the GPU its element is left out).

    Source
    ------
    Seed 000, section 3.2 (a heading: the gradient is ours).
    """
    dy = shapes.check_array("dy", dy, 4)
    shape = tuple(np.shape(indices))
    if len(shape) != 4 or shape[:2] != dy.shape[:2]:
        raise ValueError(f"indices has shape {shape}; expected (N, C, OH, OW) with the N and C of dy, which "
                         f"has shape {dy.shape}")
    g = shapes.unpool2d(shape, kernel_size, stride, padding, dy.shape)
    indices = checked_positions(indices, g)
    shapes.check_same_place(dy=dy, indices=indices)
    dx, owners = layout.empty(g.y_shape, dy.dtype, dy), layout.empty(g.x_shape, np.int32, dy)
    twin = backend.twin("max_unpool", dy)
    twin.max_unpool2d_backward(layout.channels_last(dy), indices, owners, dx)
    return dx


def checked_positions(indices, g):
    """Return a caller's indices as the twins read them, channels-last; refuse one outside the plane of g.

    Those on the GPU are not looked into, as the host would wait for it: there such a one is left out.
    """
    if layout.on_gpu(indices):
        indices = layout.gpu().as_array(indices)
    if getattr(indices, "dtype", None) not in (np.int64, np.int32):
        came = getattr(indices, "dtype", type(indices).__name__)
        raise ValueError(f"indices are {came}; expected an int64 array like that of max_pool2d_forward")
    shapes.check_shape("indices", indices, g.y_shape)
    indices = layout.channels_last(indices)
    if layout.on_gpu(indices):
        return indices
    n, oh, ow, c = first_outside(layout.nhwc(indices), g.H * g.W)
    if n >= 0:
        raise ValueError(f"indices[{n}, {c}, {oh}, {ow}] is {indices[n, c, oh, ow]}; expected 0 to "
                         f"{g.H * g.W - 1}, a position in the output's plane of {g.H} x {g.W}")
    return indices
