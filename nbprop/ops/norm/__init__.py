"""Normalisation over groups of values: what batch, instance and group norm and MVN have in common.

                     groups    over_batch   divisor
    BatchNorm2d      C         True         sqrt(v + eps)
    InstanceNorm2d   C         False        sqrt(v + eps)
    GroupNorm        G         False        sqrt(v + eps)
    MVN              C or 1    False        sqrt(v) + eps, or 1
"""

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.ops.norm.deviation import DIVISORS

__all__ = ["norm_backward", "norm_forward"]


def norm_forward(x, weight=None, bias=None, groups=None, over_batch=False, eps=1e-5, divisor="sqrt(v + eps)",
                 mean=None, variance=None):
    """Normalise groups of values to mean 0 and variance 1, then scale and shift each channel.

        y[n, c, h, w] = weight[c] (x[n, c, h, w] - mean) / s + bias[c]

    with mean, variance v = 1/m sum (x - mean)^2 and s of the group that (n, c) is in.

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    weight, bias : array (C,), of the dtype of `x`, optional
        Ones and zeros if None.
    groups : int, optional
        G: a group is C / G neighbouring channels. One channel each if None.
    over_batch : bool
        Take a group over all images; else over each image on its own.
    eps : float
        Keeps s from 0.
    divisor : str
        What s is: "sqrt(v + eps)", "sqrt(v) + eps" (Caffe's MVN), or "1".
    mean, variance : array (1, G), optional
        Use these, as a trained batch norm does, and not the groups' own.

    Returns
    -------
    y : array (N, C, H, W), of the dtype of `x`
    mean, variance : array (N, G), or (1, G) if `over_batch`, float64
        What was used; `norm_backward` wants them.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, `groups` does not divide C, or a group has one value only.

    Source
    ------
    Seed 000, section 3.5 (a heading: the derivation, in reference.py, is ours). Ioffe and Szegedy 2015,
    algorithm 1; Ulyanov et al. 2016, equation 3; Wu and He 2018, equation 7.
    """
    x = shapes.check_array("x", x, 4)
    fixed = mean is not None or variance is not None
    B, G = shapes.norm2d(x.shape, groups, over_batch or fixed, fixed)
    weight, bias = _column("weight", weight, x, 1), _column("bias", bias, x, 0)
    x = layout.channels_last(x)
    twin = backend.twin("norm", x)
    work = twin.workspace(x.shape, B, x.dtype)
    eps, divisor, y = shapes.not_negative("eps", eps), _kind(divisor), layout.empty_like(x)
    if fixed:
        mean, variance = _statistics(mean, variance, (1, G), x)
        rstd, pull = layout.empty_like(variance), layout.empty_like(variance)
        twin.norm_divisors(variance, eps, divisor, rstd, pull)
        twin.norm_forward(x, weight, bias, mean, rstd, None, False, y, work)
    else:
        mean, variance, rstd, pull = (layout.empty((B, G), np.float64, x) for _ in range(4))
        twin.norm_forward_own(x, weight, bias, eps, divisor, None, False, mean, variance, rstd, pull, y, work)
    return y, mean, variance


def norm_backward(dy, x, mean, variance, weight=None, eps=1e-5, divisor="sqrt(v + eps)", fixed=False):
    """Return the gradients by `x`, the weight and the bias.

        dx_i = (g_i - mean of g) / s - (mean of g d) d_i / (s^2 t),   g = weight dy,  d = x - mean
        dw_c = sum of dy d / s,  db_c = sum of dy

    where t is s for "sqrt(v + eps)", and sqrt(v) for "sqrt(v) + eps"; 1/t is 0 for "1", and where v is.

    Parameters
    ----------
    dy, x : array (N, C, H, W), float32 or float64
    mean, variance : array (N, G) or (1, G), float64
        From `norm_forward`; their shape says what the groups were.
    weight, eps, divisor
        As in the forward pass.
    fixed : bool
        Whether mean and variance were given and not taken from `x`: then dx_i = g_i / s.

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `x`
    dw, db : array (C,), of the dtype of `x`

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit together.

    Source
    ------
    Seed 000, section 3.5 (a heading: the derivation, in reference.py, is ours).
    """
    x = shapes.check_array("x", x, 4)
    dy = shapes.check_array("dy", dy, 4)
    shapes.check_shape("dy", dy, x.shape)
    shapes.check_same_dtype(dy=dy, x=x)
    weight = _column("weight", weight, x, 1)
    N, C = x.shape[:2]
    mean, variance = _statistics(mean, variance, np.shape(mean), x)
    if mean.ndim != 2 or mean.shape[0] not in (1, N) or mean.shape[1] < 1 or C % mean.shape[1]:
        raise ValueError(f"mean has shape {mean.shape}; expected (N, G) or (1, G) as norm_forward returned "
                         f"it for x of shape {x.shape}")
    dy, x = layout.channels_last(dy), layout.channels_last(x)
    twin = backend.twin("norm", x)
    B = mean.shape[0]
    work = twin.workspace(x.shape, B, x.dtype)
    rstd, pull = layout.empty_like(variance), layout.empty_like(variance)
    twin.norm_divisors(variance, shapes.not_negative("eps", eps), _kind(divisor), rstd, pull)
    sums = layout.empty((2, B, C), np.float64, x)
    dx, dw, db = layout.empty_like(x), layout.empty((C,), x.dtype, x), layout.empty((C,), x.dtype, x)
    no_bias = layout.zeros((C,), x.dtype, x)
    if fixed:
        twin.norm_backward_sums(dy, x, weight, no_bias, mean, rstd, False, sums, work)
        twin.norm_backward_input(dy, x, weight, no_bias, mean, rstd, pull, sums, True, False, dx, work)
    else:
        twin.norm_backward_own(dy, x, weight, no_bias, mean, rstd, pull, False, sums, dx, work)
    twin.norm_backward_weight(sums, rstd, dw, db)
    return dx, dw, db


def _column(name, values, x, default):
    """Return weight or bias as the twins read it."""
    if values is None:
        return layout.full((x.shape[1],), default, x.dtype, x)
    values = shapes.check_array(name, values, 1)
    shapes.check_shape(name, values, (x.shape[1],))
    shapes.check_same_dtype(**{"x": x, name: values})
    return layout.contiguous(values)


def _statistics(mean, variance, shape, x):
    """Return given statistics as float64."""
    found = []
    for name, values in (("mean", mean), ("variance", variance)):
        if values is None:
            raise ValueError(f"{name} is None; expected mean and variance together")
        if layout.on_gpu(values):
            values = layout.gpu().as_array(values).astype(np.float64, copy=False)
        else:
            values = np.asarray(values, np.float64)
        shapes.check_same_place(**{"x": x, name: values})
        shapes.check_shape(name, values, shape)
        found.append(layout.contiguous(values))
    return found


def _kind(divisor):
    """Return a divisor's number, which the twins are told."""
    if divisor not in DIVISORS:
        raise ValueError(f"divisor is {divisor!r}; expected one of {DIVISORS}")
    return DIVISORS.index(divisor)
