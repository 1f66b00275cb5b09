"""Two-dimensional convolution (cross-correlation, as in torch.nn) on plain arrays."""

from nbprop import backend, layout, shapes

__all__ = ["conv2d_backward_input", "conv2d_backward_weight", "conv2d_forward"]


def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve: y[n, o, i, j] = b[o] + sum x[n, c, i SH + kh DH - PH, j SW + kw DW - PW] w[o, c, kh, kw].

    The sum runs over c, kh and kw.

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
        Input; zero outside its edges.
    w : array (O, C / groups, KH, KW)
        Weights; group g maps its C / groups input channels to its O / groups output channels.
    b : array (O,), optional
        Bias.
    stride, padding, dilation : int or (int, int)
        Rows and columns; `padding` may be "valid" or "same".
    groups : int
        Must divide C and O.

    Returns
    -------
    array (N, O, OH, OW)
        OH = floor((H + 2 PH - DH (KH - 1) - 1) / SH) + 1, channels-last in memory.

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Notes
    -----
    Source: seed 003, section 3 (forward formulas of 3.1 and 3.2.1); seed 001, equation 4.
    """
    x, w, b, g = _checked(x, w, b, stride, padding, dilation, groups)
    y = layout.empty((g.N, g.O, g.OH, g.OW), x.dtype, x)
    twin = backend.twin("conv", x)
    twin.forward(x, w, b, y, g, False, twin.workspace(g, x.dtype))
    return y


def conv2d_backward_input(dy, w, x_shape, stride=1, padding=0, dilation=1, groups=1):
    """Gradient by the input: dx[n, c, h, q] = sum of dy[n, o, i, j] w[o, c, kh, kw] over all taps that read x[h, q].

    Parameters
    ----------
    dy : array (N, O, OH, OW)
        The loss's derivative by the output.
    w : array (O, C / groups, KH, KW)
        Weights.
    x_shape : tuple
        Shape (N, C, H, W) of the input: with a stride, dy alone does not tell it.
    stride, padding, dilation, groups
        As in `conv2d_forward`.

    Returns
    -------
    array (N, C, H, W)
        Zero where no window reached.

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Notes
    -----
    Source: seed 003, sections 3.1.3 and 3.2.3 (which it leaves unfinished); seed 001, equations 17 to 21.
    """
    dy = shapes.check_array("dy", dy, 4)
    w = shapes.check_array("w", w, 4)
    shapes.check_same_dtype(dy=dy, w=w)
    g = shapes.conv2d(shapes.sizes("x_shape", x_shape, 4), w.shape, stride, padding, dilation, groups)
    shapes.check_shape("dy", dy, (g.N, g.O, g.OH, g.OW))
    dy, w = layout.channels_last(dy), layout.khwio_last(w)
    dx = layout.empty((g.N, g.C, g.H, g.W), dy.dtype, dy)
    twin = backend.twin("conv", dy)
    twin.backward_input(dy, w, None, dx, g, twin.workspace(g, dy.dtype))
    return dx


def conv2d_backward_weight(dy, x, w_shape, stride=1, padding=0, dilation=1, groups=1):
    """Gradients by the weights and the bias: dw[o, c, kh, kw] = sum of dy[n, o, i, j] x[...], db[o] = sum of dy.

    Parameters
    ----------
    dy : array (N, O, OH, OW)
        The loss's derivative by the output.
    x : array (N, C, H, W)
        The input of the forward pass.
    w_shape : tuple
        Shape (O, C / groups, KH, KW) of the weights.
    stride, padding, dilation, groups
        As in `conv2d_forward`.

    Returns
    -------
    dw : array (O, C / groups, KH, KW)
    db : array (O,)

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Notes
    -----
    Source: seed 003, sections 3.1.1, 3.1.2 and 3.2.1; seed 001, equations 10 to 14.
    """
    dy = shapes.check_array("dy", dy, 4)
    x = shapes.check_array("x", x, 4)
    shapes.check_same_dtype(dy=dy, x=x)
    g = shapes.conv2d(x.shape, shapes.sizes("w_shape", w_shape, 4), stride, padding, dilation, groups)
    shapes.check_shape("dy", dy, (g.N, g.O, g.OH, g.OW))
    dy, x = layout.channels_last(dy), layout.channels_last(x)
    dw, db = layout.empty_weights((g.O, g.C // g.G, g.KH, g.KW), x.dtype, x), layout.empty((g.O,), x.dtype, x)
    twin = backend.twin("conv", x)
    twin.backward_weight(dy, x, dw, db, g, twin.workspace(g, x.dtype))
    return dw, db


def _checked(x, w, b, stride, padding, dilation, groups):
    """Check the forward arguments and bring them into the memory order that kernels read."""
    x = shapes.check_array("x", x, 4)
    w = shapes.check_array("w", w, 4)
    if b is not None:
        b = shapes.check_array("b", b, 1)
    shapes.check_same_dtype(x=x, w=w, b=b)
    g = shapes.conv2d(x.shape, w.shape, stride, padding, dilation, groups)
    if b is None:
        b = layout.zeros((g.O,), x.dtype, x)
    shapes.check_shape("b", b, (g.O,))
    return layout.channels_last(x), layout.khwio_last(w), layout.contiguous(b), g
