"""Convolution in the mathematical sense: cross-correlation with a kernel rotated by 180 degrees."""

from nbprop import backend, layout, shapes

__all__ = ["conv2d_flip_backward_input", "conv2d_flip_backward_weight", "conv2d_flip_forward"]


def conv2d_flip_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve, the weights running backwards over each window.

        y[n, o, i, j] = b[o] + sum over c, m, m' of x[n, c, i' - m DH, j' - m' DW] w[o, c, m, m']

    i' = i SH + DH (KH - 1) - PH is the last row of the window, and j' its last column. With stride 1 and
    padding K - 1 ("full"), y[i, j] = sum of I(i - m, j - m') K(m, m'). It is nbprop.ops.conv's
    `conv2d_forward` with w[:, :, ::-1, ::-1].

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
        Zero outside its edges.
    w : array (O, C / groups, KH, KW)
    b : array (O,), optional
    stride, padding, dilation : int or pair of int
    groups : int

    Returns
    -------
    y : array (N, O, OH, OW), of the dtype of `x`

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Source
    ------
    Seed 001, equations 2 and 3. Erratum: equation 3 reads K(-m, -n) with m, n from 0 on,
    outside the kernel; its sums run from -(k - 1) to 0, or after a shift K(k1 - 1 - m, k2 - 1 - n), as here.
    """
    x = shapes.check_array("x", x, 4)
    w = shapes.check_array("w", w, 4)
    b = layout.zeros((w.shape[0],), w.dtype, w) if b is None else b
    b = shapes.check_array("b", b, 1)
    shapes.check_same_dtype(x=x, w=w, b=b)
    g = shapes.conv2d(x.shape, w.shape, stride, padding, dilation, groups)
    shapes.check_shape("b", b, (g.O,))
    x, w, b = layout.channels_last(x), layout.khwio_last(w), layout.contiguous(b)
    y = layout.empty((g.N, g.O, g.OH, g.OW), x.dtype, x)
    twin = backend.twin("conv_flip", x)
    twin.forward(x, w, b, y, g, twin.workspace(g, x.dtype))
    return y


def conv2d_flip_backward_input(dy, w, x_shape, stride=1, padding=0, dilation=1, groups=1):
    """Return the gradient by x: dy correlated with w itself, as the two rotations cancel.

    Parameters
    ----------
    dy : array (N, O, OH, OW), float32 or float64
    w : array (O, C / groups, KH, KW)
    x_shape : tuple (N, C, H, W)
    stride, padding, dilation, groups
        As in `conv2d_flip_forward`.

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `dy`

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Source
    ------
    Seed 001, equations 2, 3 and 17 to 21.
    """
    dy = shapes.check_array("dy", dy, 4)
    w = shapes.check_array("w", w, 4)
    shapes.check_same_dtype(dy=dy, w=w)
    g = shapes.conv2d(x_shape, w.shape, stride, padding, dilation, groups)
    shapes.check_shape("dy", dy, (g.N, g.O, g.OH, g.OW))
    dy, w = layout.channels_last(dy), layout.khwio_last(w)
    dx = layout.empty((g.N, g.C, g.H, g.W), dy.dtype, dy)
    twin = backend.twin("conv_flip", dy)
    twin.backward_input(dy, w, dx, g, twin.workspace(g, dy.dtype))
    return dx


def conv2d_flip_backward_weight(dy, x, w_shape, stride=1, padding=0, dilation=1, groups=1):
    """Return the gradients by w and b: those of the correlation, the first rotated.

    Parameters
    ----------
    dy : array (N, O, OH, OW), float32 or float64
    x : array (N, C, H, W)
    w_shape : tuple (O, C / groups, KH, KW)
    stride, padding, dilation, groups
        As in `conv2d_flip_forward`.

    Returns
    -------
    dw : array (O, C / groups, KH, KW)
    db : array (O,)

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Source
    ------
    Seed 001, equations 2, 3 and 10 to 14: the rotation there is this one.
    """
    dy = shapes.check_array("dy", dy, 4)
    x = shapes.check_array("x", x, 4)
    shapes.check_same_dtype(dy=dy, x=x)
    g = shapes.conv2d(x.shape, w_shape, stride, padding, dilation, groups)
    shapes.check_shape("dy", dy, (g.N, g.O, g.OH, g.OW))
    dy, x = layout.channels_last(dy), layout.channels_last(x)
    dw, db = layout.empty_weights((g.O, g.C // g.G, g.KH, g.KW), x.dtype, x), layout.empty((g.O,), x.dtype, x)
    twin = backend.twin("conv_flip", x)
    twin.backward_weight(dy, x, dw, db, g, twin.workspace(g, x.dtype))
    return dw, db
