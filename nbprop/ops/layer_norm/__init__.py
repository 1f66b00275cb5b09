"""Layer norm: each sample is normalised on its own, over its last axes, with a weight per value."""

import numpy as np

from nbprop import backend, layout, shapes

__all__ = ["as_rows", "from_rows", "layer_norm_backward", "layer_norm_forward"]


def layer_norm_forward(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise the last axes of `x`, then scale and shift each value of them.

        y[r, f] = weight[f] (x[r, f] - mean[r]) / sqrt(v[r] + eps) + bias[f]

    with mean and variance v over f, the values of the last axes; r counts the samples in front of them.

    Parameters
    ----------
    x : array of any rank, float32 or float64
    normalized_shape : int or tuple of int
        The sizes of the last axes.
    weight, bias : array of `normalized_shape`, of the dtype of `x`, optional
        Ones and zeros if None.
    eps : float
        Added to the variance.

    Returns
    -------
    y : array of the shape and dtype of `x`
    mean, rstd : array (r,), float64
        With rstd = 1 / sqrt(v + eps); `layer_norm_backward` wants them.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.

    Source
    ------
    Ba, Kiros and Hinton 2016, section 3; the gradient is derived in reference.py.
    """
    x = shapes.check_array("x", x)
    rows, features = shapes.layer_norm(x.shape, normalized_shape)
    axes = np.size(normalized_shape)
    weight, bias = _features("weight", weight, x, axes, 1), _features("bias", bias, x, axes, 0)
    mean, rstd = layout.empty((2, rows), np.float64, x)
    y = layout.empty((rows, features), x.dtype, x)
    twin = backend.twin("layer_norm", x)
    twin.layer_norm_forward(as_rows(x, axes), weight, bias, shapes.not_negative("eps", eps), mean, rstd, y)
    return layout.channels_last(from_rows(y, x.shape, axes)), mean, rstd


def layer_norm_backward(dy, x, normalized_shape, mean, rstd, weight=None):
    """Return the gradients by `x`, the weight and the bias.

        dx = rstd (g - mean of g - (mean of g xhat) xhat),   g = weight dy,  xhat = (x - mean) rstd
        dw = sum over r of dy xhat,  db = sum over r of dy

    Parameters
    ----------
    dy, x : arrays of one shape, float32 or float64
    normalized_shape : int or tuple of int
    mean, rstd : array (r,), float64
        From `layer_norm_forward`.
    weight : array of `normalized_shape`, optional

    Returns
    -------
    dx : array of the shape and dtype of `x`
    dw, db : array of `normalized_shape`

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit together.

    Source
    ------
    The derivation, in reference.py, is ours.
    """
    x = shapes.check_array("x", x)
    dy = shapes.check_array("dy", dy)
    shapes.check_shape("dy", dy, x.shape)
    shapes.check_same_dtype(dy=dy, x=x)
    rows, features = shapes.layer_norm(x.shape, normalized_shape)
    axes = np.size(normalized_shape)
    weight = _features("weight", weight, x, axes, 1)
    mean, rstd = _statistics(mean, "mean", rows, x), _statistics(rstd, "rstd", rows, x)
    dx = layout.empty((rows, features), x.dtype, x)
    dw, db = layout.empty((features,), x.dtype, x), layout.empty((features,), x.dtype, x)
    dy_rows, x_rows = as_rows(dy, axes), as_rows(x, axes)
    twin = backend.twin("layer_norm", x)
    work = twin.workspace(rows, features, x.dtype)
    twin.layer_norm_backward_input(dy_rows, x_rows, weight, mean, rstd, dx)
    twin.layer_norm_backward_weight(dy_rows, x_rows, mean, rstd, dw, db, work)
    of_features = x.shape[x.ndim - axes :]
    return (layout.channels_last(from_rows(dx, x.shape, axes)), from_rows(dw, of_features, axes),
            from_rows(db, of_features, axes))  # fmt: skip


def as_rows(x, axes):
    """Return `x` as (rows, features), a view where memory allows; three axes (C, H, W) lie as H, W, C."""
    front, last = x.shape[: x.ndim - axes], x.shape[x.ndim - axes :]
    if axes == 3:
        x = x[np.newaxis] if x.ndim == 3 else x
        x = layout.channels_last(x if x.ndim == 4 else x.reshape(-1, *last)).transpose(0, 2, 3, 1)
    return layout.contiguous(x).reshape(int(np.prod(front)), int(np.prod(last)))


def from_rows(a, shape, axes):
    """View (rows, features), or features alone, as `shape`: the inverse of `as_rows`."""
    if axes != 3:
        return a.reshape(shape)
    C, H, W = shape[-3:]
    last = len(shape) - 1
    return a.reshape(*shape[:-3], H, W, C).transpose(*range(last - 2), last, last - 2, last - 1)


def _statistics(values, name, rows, x):
    """Return given statistics as float64."""
    if layout.on_gpu(values):
        values = layout.gpu().as_array(values).astype(np.float64, copy=False)
    else:
        values = np.asarray(values, np.float64)
    shapes.check_same_place(**{"x": x, name: values})
    shapes.check_shape(name, values, (rows,))
    return layout.contiguous(values)


def _features(name, values, x, axes, default):
    """Return weight or bias as the twins read it: one run of memory, in the order of a row."""
    shape = x.shape[x.ndim - axes :]
    if values is None:
        return layout.full((int(np.prod(shape)),), default, x.dtype, x)
    values = shapes.check_array(name, values)
    shapes.check_shape(name, values, shape)
    shapes.check_same_dtype(**{"x": x, name: values})
    return as_rows(values, axes).reshape(-1)
