"""Average unpooling: each value is spread over its window."""

from nbprop import backend, layout, shapes

__all__ = ["MODES", "avg_unpool2d_backward", "avg_unpool2d_forward", "check_mode"]

MODES = ("copy", "adjoint")


def avg_unpool2d_forward(x, kernel_size, stride=None, padding=0, output_size=None, mode="copy"):
    """Spread each element of `x` over its window.

        y[n, c, h, w] = sum of x[n, c, oh, ow] s  over the windows (oh, ow) that hold (h, w)

    With "copy" s is one over the number of these windows: each position has the mean of the values whose
    windows hold it, just the value where windows do not overlap. Average pooling then gives `x` again.
    With "adjoint" s is 1/m, m the divisor of average pooling (the positions of the window in the padded
    plane): the adjoint of average pooling, which keeps sums where "copy" keeps values. Positions in no window
    get 0.

    Parameters
    ----------
    x : array (N, C, OH, OW), float32 or float64
    kernel_size, stride, padding : int or pair of int
        Of the average pooling. The stride is `kernel_size` if None.
    output_size : tuple (H, W) or (N, C, H, W), optional
        The plane, where several sizes pool to that of `x`; the smallest full one,
        (OH - 1) SH - 2 PH + KH by (OW - 1) SW - 2 PW + KW, if None.
    mode : str
        "copy" or "adjoint".

    Returns
    -------
    y : array (N, C, H, W), of the dtype of `x`

    Raises
    ------
    ValueError
        If a size is out of range or the mode is neither.

    Source
    ------
    Seed 000, section 3.4 (a heading: both forms are ours).
    """
    x = shapes.check_array("x", x, 4)
    check_mode(mode)
    g = shapes.unpool2d(x.shape, kernel_size, stride, padding, output_size)
    y = layout.empty(g.x_shape, x.dtype, x)
    twin = backend.twin("avg_unpool", x)
    twin.avg_unpool2d_forward(layout.channels_last(x), y, g.kernel, g.stride, g.padding, mode == "copy")
    return y


def avg_unpool2d_backward(dy, x_shape, kernel_size, stride=None, padding=0, mode="copy"):
    """Return the gradient by `x`: the adjoint, each element takes s dy from all positions of its window.

        dx[n, c, oh, ow] = sum of dy[n, c, h, w] s  over the positions (h, w) of window (oh, ow)

    Parameters
    ----------
    dy : array (N, C, H, W), float32 or float64
    x_shape : tuple (N, C, OH, OW)
    kernel_size, stride, padding, mode
        As in the forward pass.

    Returns
    -------
    dx : array (N, C, OH, OW), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes do not fit together, a size is out of range or the mode is neither.

    Source
    ------
    Seed 000, section 3.4 (a heading: the gradient is ours).
    """
    dy = shapes.check_array("dy", dy, 4)
    check_mode(mode)
    if len(x_shape) != 4 or tuple(x_shape[:2]) != dy.shape[:2]:
        raise ValueError(f"x_shape is {tuple(x_shape)}; expected (N, C, OH, OW) with the N and C of dy, "
                         f"which has shape {dy.shape}")
    g = shapes.unpool2d(x_shape, kernel_size, stride, padding, dy.shape)
    dx = layout.empty(g.y_shape, dy.dtype, dy)
    twin = backend.twin("avg_unpool", dy)
    twin.avg_unpool2d_backward(layout.channels_last(dy), dx, g.kernel, g.stride, g.padding, mode == "copy")
    return dx


def check_mode(mode):
    """Refuse anything but "copy" and "adjoint"."""
    if mode not in MODES:
        raise ValueError(f'mode is {mode!r}; expected "copy" or "adjoint"')
