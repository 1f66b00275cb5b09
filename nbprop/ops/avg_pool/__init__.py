"""Average pooling: the mean of each window."""

from nbprop import backend, layout, shapes

__all__ = ["avg_pool2d_backward", "avg_pool2d_forward"]


def avg_pool2d_forward(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                       divisor_override=None):
    """Return the mean of each window of `x`.

        y[n, c, oh, ow] = 1/m  sum over kh, kw of x[n, c, oh SH - PH + kh, ow SW - PW + kw]

    The sum is over elements of `x`. The divisor m counts the positions of the window in the padded image, so
    that padding weighs as zeros, or those in `x` if not `count_include_pad`; what hangs over the padding with
    `ceil_mode` never counts.

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    kernel_size, stride, padding : int or pair of int
        The stride is `kernel_size` if None. Padding is at most half of `kernel_size`.
    ceil_mode : bool
        Keep a last window that hangs over the far edge, if it starts inside.
    count_include_pad : bool
    divisor_override : int, optional
        Take this for m.

    Returns
    -------
    y : array (N, C, OH, OW), of the dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array or a size is out of range.

    Source
    ------
    Seed 000, section 3.3 (a heading: the formula is ours, with torch's divisor).
    """
    x = shapes.check_array("x", x, 4)
    g, divisor = shapes.avg_pool2d(x.shape, kernel_size, stride, padding, ceil_mode, divisor_override)
    x = layout.channels_last(x)
    y = layout.empty(g.y_shape, x.dtype, x)
    twin = backend.twin("avg_pool", x)
    twin.avg_pool2d_forward(x, y, g.kernel, g.stride, g.padding, bool(count_include_pad), divisor)
    return y


def avg_pool2d_backward(dy, x_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True, divisor_override=None):
    """Return the gradient by `x`: every element of a window receives the window's dy divided by m.

        dx[n, c, h, w] = sum of dy[n, c, oh, ow] / m(oh, ow) over the windows that hold (h, w)

    Parameters
    ----------
    dy : array (N, C, OH, OW), float32 or float64
    x_shape : tuple (N, C, H, W)
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in the forward pass.

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes do not fit together or a size is out of range.

    Source
    ------
    Seed 001, "Pooling": all units of the block get the same value. Erratum: the seed multiplies the error by
    m = N x N; since y is the sum divided by m, so is each partial derivative, and the error is divided.
    """
    dy = shapes.check_array("dy", dy, 4)
    g, divisor = shapes.avg_pool2d(x_shape, kernel_size, stride, padding, ceil_mode, divisor_override)
    shapes.check_shape("dy", dy, g.y_shape)
    dy = layout.channels_last(dy)
    dx = layout.empty(g.x_shape, dy.dtype, dy)
    twin = backend.twin("avg_pool", dy)
    twin.avg_pool2d_backward(dy, dx, g.kernel, g.stride, g.padding, bool(count_include_pad), divisor)
    return dx
