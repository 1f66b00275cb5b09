"""Softmax and its logarithm along one axis."""

from nbprop import backend, layout
from nbprop.shapes import check_array, check_same_dtype, check_shape, integer

__all__ = ["log_softmax_backward", "log_softmax_forward", "softmax_backward", "softmax_forward"]


def softmax_forward(x, dim=1):
    """Softmax: y_k = e^(x_k) / sum_j e^(x_j) along `dim`, computed with x - max x.

    Parameters
    ----------
    x : array, float32 or float64
    dim : int
        The axis; negative ones count from the last. Axis 1, the channels, is the fast one of (N, C, H, W).

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    ValueError
        For another dtype, or an axis that x lacks.

    Source
    ------
    Seed 004: p_k = e^(z_k) / sum_j e^(z_j).
    """
    return _forward("softmax_forward", x, dim)


def softmax_backward(y, dy, dim=1):
    """Jacobian product of softmax: dx_k = sum_j dy_j y_j ([j = k] - y_k) = y_k (dy_k - sum_j dy_j y_j).

    Parameters
    ----------
    y, dy : array, float32 or float64
        The output of `softmax_forward`, and the loss's gradient by it.
    dim : int

    Returns
    -------
    dx : array of y's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or for an axis that y lacks.

    Source
    ------
    Our derivation: dy_j/dx_k = y_j ([j = k] - y_k), seed 004's Jacobian view.
    """
    return _backward("softmax_backward", y, dy, dim)


def log_softmax_forward(x, dim=1):
    """Logarithm of softmax: y_k = x_k - log sum_j e^(x_j) along `dim`, exact where softmax itself underflows.

    Parameters
    ----------
    x : array, float32 or float64
    dim : int

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    ValueError
        For another dtype, or an axis that x lacks.

    Source
    ------
    Seed 004: the logarithm of p_k.
    """
    return _forward("log_softmax_forward", x, dim)


def log_softmax_backward(y, dy, dim=1):
    """Jacobian product of log softmax: dx_k = sum_j dy_j ([j = k] - e^(y_k)) = dy_k - e^(y_k) sum_j dy_j.

    Parameters
    ----------
    y, dy : array, float32 or float64
        The output of `log_softmax_forward`, and the loss's gradient by it.
    dim : int

    Returns
    -------
    dx : array of y's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or for an axis that y lacks.

    Source
    ------
    Our derivation: dy_j/dx_k = [j = k] - e^(y_k).
    """
    return _backward("log_softmax_backward", y, dy, dim)


def check_axis(dim, ndim):
    """Return `dim` as an axis counted from the first, or refuse it."""
    axis = integer("dim", dim, -ndim)
    if axis >= ndim:
        raise ValueError(f"dim is {axis} and x has {ndim} axes; expected {-ndim} to {ndim - 1}")
    return axis % ndim


def _forward(name, x, dim):
    x = check_array("x", x)
    axis = check_axis(dim, x.ndim)
    x = layout.channels_last(x)
    y = layout.empty_like(x)
    getattr(backend.twin("softmax", x), name)(x, y, axis)
    return y


def _backward(name, y, dy, dim):
    y = check_array("y", y)
    dy = check_array("dy", dy)
    check_shape("dy", dy, y.shape)
    check_same_dtype(y=y, dy=dy)
    axis = check_axis(dim, y.ndim)
    y, dy = layout.channels_last(y), layout.channels_last(dy)
    dx = layout.empty_like(y)
    getattr(backend.twin("softmax", y), name)(y, dy, dx, axis)
    return dx
