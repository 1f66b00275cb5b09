"""Two-dimensional transposed convolution ("deconvolution") on plain arrays."""

from nbprop import backend, layout, shapes

__all__ = ["conv_transpose2d_backward_input", "conv_transpose2d_backward_weight", "conv_transpose2d_forward"]


def conv_transpose2d_forward(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Spread every input pixel through the kernel: y[n, o, i SH + kh DH - PH, ...] += x[n, c, i, j] w[c, o, kh, kw].

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
        Input.
    w : array (C, O / groups, KH, KW)
        Weights, input channels first, as in torch.
    b : array (O,), optional
        Bias.
    stride, padding, output_padding, dilation : int or (int, int)
        Rows and columns.
    groups : int
        Must divide C.

    Returns
    -------
    array (N, O, OH, OW)
        OH = (H - 1) SH - 2 PH + DH (KH - 1) + output_padding + 1.

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Notes
    -----
    It is the adjoint of the convolution that maps y to x: with A for that convolution's matrix, conv(y) = A y and
    this is A^T x.

    Source: seed 000, section 3.7 (a heading only: the derivation is ours); seed 003, section 3.2.3.
    """
    x = shapes.check_array("x", x, 4)
    w = shapes.check_array("w", w, 4)
    if b is not None:
        b = shapes.check_array("b", b, 1)
    shapes.check_same_dtype(x=x, w=w, b=b)
    g = shapes.conv_transpose2d(x.shape, w.shape, stride, padding, output_padding, dilation, groups)
    b = layout.zeros((g.C,), x.dtype, x) if b is None else layout.contiguous(b)
    shapes.check_shape("b", b, (g.C,))
    y = layout.empty((g.N, g.C, g.H, g.W), x.dtype, x)
    twin = backend.twin("conv_transpose", x)
    twin.forward(layout.channels_last(x), layout.khwio_last(w), b, y, g, False, twin.workspace(g, x.dtype))
    return y


def conv_transpose2d_backward_input(dy, w, x_shape, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Gradient by the input: (A^T)^T dy, the convolution of dy with w.

    Parameters
    ----------
    dy : array (N, O, OH, OW)
        The loss's derivative by the output.
    w : array (C, O / groups, KH, KW)
        Weights.
    x_shape : tuple
        Shape (N, C, H, W) of the input.
    stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d_forward`.

    Returns
    -------
    array (N, C, H, W)

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Notes
    -----
    Source: seed 000, section 3.7 (a heading only: the derivation is ours).
    """
    dy, w, g = _checked_gradient(dy, w.shape, "w", w, x_shape, stride, padding, output_padding, dilation, groups)
    dx = layout.empty(x_shape, dy.dtype, dy)
    twin = backend.twin("conv_transpose", dy)
    twin.backward_input(dy, layout.khwio_last(w), None, dx, g, twin.workspace(g, dy.dtype))
    return dx


def conv_transpose2d_backward_weight(dy, x, w_shape, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Gradients by the weights and the bias: dw[c, o, kh, kw] = sum of x[n, c, i, j] dy[n, o, i SH + kh DH - PH, ...].

    Parameters
    ----------
    dy : array (N, O, OH, OW)
        The loss's derivative by the output.
    x : array (N, C, H, W)
        The input of the forward pass.
    w_shape : tuple
        Shape (C, O / groups, KH, KW) of the weights.
    stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d_forward`.

    Returns
    -------
    dw : array (C, O / groups, KH, KW)
    db : array (O,)

    Raises
    ------
    ValueError
        If a shape, dtype or number does not fit, by name.

    Notes
    -----
    Source: seed 000, section 3.7 (a heading only: the derivation is ours).
    """
    dy, x, g = _checked_gradient(dy, w_shape, "x", x, x.shape, stride, padding, output_padding, dilation, groups)
    x = layout.channels_last(x)
    dw, db = layout.empty_weights(w_shape, x.dtype, x), layout.empty((g.C,), x.dtype, x)
    twin = backend.twin("conv_transpose", x)
    twin.backward_weight(dy, x, dw, db, g, twin.workspace(g, x.dtype))
    return dw, db


def _checked_gradient(dy, w_shape, name, other, x_shape, stride, padding, output_padding, dilation, groups):
    """Check dy and the array that it meets; return both and the geometry."""
    dy = shapes.check_array("dy", dy, 4)
    other = shapes.check_array(name, other, 4)
    shapes.check_same_dtype(**{"dy": dy, name: other})
    x_shape, w_shape = shapes.sizes("x_shape", x_shape, 4), shapes.sizes("w_shape", w_shape, 4)
    g = shapes.conv_transpose2d(x_shape, w_shape, stride, padding, output_padding, dilation, groups)
    shapes.check_shape("dy", dy, (g.N, g.C, g.H, g.W))
    return layout.channels_last(dy), other, g
