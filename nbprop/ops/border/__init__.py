"""Borders: padding with a constant, by reflection, replication or wrapping around, and cropping."""

from nbprop import backend, layout, shapes

__all__ = ["border_backward", "border_forward"]


def border_forward(x, padding, mode="constant", value=0.0):
    """Return x with rows and columns added at its edges, or taken away where the padding is negative.

        y[n, c, oh, ow] = x[n, c, h(oh), w(ow)],  or `value` where mode "constant" has no such position

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    padding : int or (left, right, top, bottom)
        A negative one crops.
    mode : str
        "constant", "reflect" (the edge is not repeated), "replicate" (the edge is), or "circular".
    value : float
        The constant.

    Returns
    -------
    y : array (N, C, H + top + bottom, W + left + right), of the dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array, nothing would be left of it, or the border needs more than x holds:
        "reflect" at most H - 1 rows, "circular" H rows.

    Source
    ------
    Seed 000, sections 4.1 and 4.2, which are headings: the op is a selection matrix (a 1 in
    each row, or none), and its gradient the transposed one. torch.nn.functional.pad.
    """
    x = shapes.check_array("x", x, 4)
    g = shapes.border2d(x.shape, padding, mode)
    x = layout.channels_last(x)
    y = layout.empty(g.y_shape, x.dtype, x)
    backend.twin("border", x).border_forward(x, y, g.padding, shapes.BORDERS.index(mode), float(value))
    return y


def border_backward(dy, x_shape, padding, mode="constant"):
    """Return the gradient by x: each dy goes back to the element that its position shows.

        dx[n, c, h, w] = sum of dy[n, c, oh, ow] over h(oh) = h, w(ow) = w

    An element that is shown in several places (reflect, replicate, circular) adds them up; one that was
    cropped gets 0. The constant's part of dy goes nowhere.

    Parameters
    ----------
    dy : array (N, C, OH, OW), float32 or float64
    x_shape : tuple (N, C, H, W)
    padding, mode
        As in the forward pass.

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes do not fit together, as in the forward pass.

    Source
    ------
    Seed 000, sections 4.1 and 4.2 (headings; the derivation is ours, the transpose of a selection).
    """
    dy = shapes.check_array("dy", dy, 4)
    g = shapes.border2d(x_shape, padding, mode)
    shapes.check_shape("dy", dy, g.y_shape)
    dy = layout.channels_last(dy)
    dx = layout.empty(g.x_shape, dy.dtype, dy)
    backend.twin("border", dy).border_backward(dy, dx, g.padding, shapes.BORDERS.index(mode))
    return dx
