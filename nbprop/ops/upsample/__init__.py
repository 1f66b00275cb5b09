"""Resizing: nearest neighbour and bilinear."""

from nbprop import backend, jit, layout, shapes
from nbprop.ops.upsample.taps import on_gpu, taps

__all__ = ["beside", "check_mode", "geometry", "upsample_backward", "upsample_forward", "workspace"]


def upsample_forward(x, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """Return x at another size, each element blended from up to four of x.

        y[oh, ow] = (1 - v) ((1 - u) x[h, w] + u x[h, w + 1]) + v ((1 - u) x[h + 1, w] + u x[h + 1, w + 1])

    with h + v = max((oh + 1/2) H / OH - 1/2, 0), or oh (H - 1) / (OH - 1) with `align_corners`, w + u alike,
    and h + 1 and w + 1 at most the last. mode "nearest" is x[floor(oh H / OH), floor(ow W / OW)].

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    size : int or pair of int, optional
        OH and OW.
    scale_factor : float or pair of float, optional
        Instead of `size`: OH = floor(H s), and 1 / s stands for H / OH in the formulas, as in torch.
    mode : str
        "nearest" or "bilinear".
    align_corners : bool, optional
        For "bilinear"; False if None.

    Returns
    -------
    y : array (N, C, OH, OW), of the dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array, not exactly one of `size` and `scale_factor` is given or it is out of
        range, for another mode, or if `align_corners` is given with "nearest".

    Source
    ------
    Seed 000, section 4 ("resizing"; the derivation is ours); torch.nn.Upsample.
    """
    x = shapes.check_array("x", x, 4)
    y_shape, *axes = geometry(x.shape, x.dtype, size, scale_factor, mode, align_corners)
    x = layout.channels_last(x)
    y = layout.empty(y_shape, x.dtype, x)
    backend.twin("upsample", x).upsample_forward(x, y, *beside(x, *axes), workspace(x.shape, y_shape, x.dtype, x))
    return y


def upsample_backward(dy, x_shape, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """Return the gradient by x: each dy goes back to its up to four elements, with the same weights.

    The forward pass is y = A_h x A_w^T with two sparse matrices; this is dx = A_h^T dy A_w.

    Parameters
    ----------
    dy : array (N, C, OH, OW), float32 or float64
    x_shape : tuple (N, C, H, W)
    size, scale_factor, mode, align_corners
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
    Seed 000, section 4 ("resizing"; the derivation is ours); torch.nn.Upsample.
    """
    dy = shapes.check_array("dy", dy, 4)
    y_shape, *axes = geometry(tuple(x_shape), dy.dtype, size, scale_factor, mode, align_corners)
    shapes.check_shape("dy", dy, y_shape)
    dy = layout.channels_last(dy)
    dx = layout.empty(tuple(x_shape), dy.dtype, dy)
    twin = backend.twin("upsample", dy)
    twin.upsample_backward(dy, dx, *beside(dy, *axes), workspace(dx.shape, y_shape, dy.dtype, dy))
    return dx


def check_mode(mode, align_corners):
    """Refuse other modes, and corners to align where none are."""
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f'mode is {mode!r}; expected "nearest" or "bilinear"')
    if mode == "nearest" and align_corners is not None:
        raise ValueError(f'align_corners is {align_corners!r} and mode is "nearest"; expected None: only '
                         '"bilinear" has corners to align')


def geometry(x_shape, dtype, size, scale_factor, mode, align_corners):
    """Return (y's shape, taps of the rows, taps of the columns, whether to blend)."""
    check_mode(mode, align_corners)
    y_shape, scales = shapes.upsample2d(x_shape, size, scale_factor)
    axes = (taps(x_shape[i], y_shape[i], scales[i - 2], mode, bool(align_corners), dtype) for i in (2, 3))
    return y_shape, *axes, mode == "bilinear"


def beside(x, rows, columns, linear):
    """Return what `geometry` does of the axes as the twin for `x` reads it."""
    return (on_gpu(rows), on_gpu(columns), linear) if layout.on_gpu(x) else (rows, columns, linear)


def workspace(x_shape, y_shape, dtype, like=None):
    """Allocate a row of x or of y, the longer, per task."""
    return layout.empty((jit.threads(), max(x_shape[3], y_shape[3]) * x_shape[1]), dtype, like)
