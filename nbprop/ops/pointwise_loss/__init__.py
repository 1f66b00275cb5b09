"""Losses that are sums or means over elements: Euclidean, squared, absolute, Huber, binary cross entropy."""

import math

import numpy as np

from nbprop import backend, layout
from nbprop.ops.pointwise_loss.pairs import (
    ABSOLUTE,
    BCE_WITH_LOGITS,
    HALF_SQUARED,
    HUBER,
    SQUARED,
    LossPair,
)
from nbprop.shapes import check_array, check_same_dtype, check_shape

__all__ = [
    "ABSOLUTE",
    "BCE_WITH_LOGITS",
    "HALF_SQUARED",
    "HUBER",
    "SQUARED",
    "LossPair",
    "pointwise_loss_backward",
    "pointwise_loss_forward",
]

_CHUNK = 1 << 14  # elements of one partial sum: fixed, whatever the number of threads
_GPU_CHUNK = 1 << 12  # on the GPU, where chunks are what keeps it busy
_REDUCTIONS = ("mean", "sum", "none", "batchmean")


def pointwise_loss_forward(pair, y, target, *parameters, reduction="mean"):
    """Sum, or mean, of l(y_i, t_i) over all elements i.

    Parameters
    ----------
    pair : LossPair
        SQUARED (y - t)^2, HALF_SQUARED, ABSOLUTE |y - t|, HUBER (takes delta), BCE_WITH_LOGITS.
    y, target : array, float32 or float64
        Of one shape.
    *parameters : float
        What the pair's functions take after y and t.
    reduction : str
        "mean" over elements, "sum", "none", or "batchmean": the sum over the number of samples.

    Returns
    -------
    loss : float, or array of y's shape for "none"
        The mean of nothing is NaN, as in torch.

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or for another reduction.

    Source
    ------
    Seed 000 has only the heading 5.1, Euclidean; HALF_SQUARED by "batchmean" is Caffe's 1/(2N) sum (y - t)^2.
    """
    y, target = check_arguments(y, target, reduction)
    loss = evaluate(pair, parameters, y, target, reduction, buffers(y, reduction), layout.empty_like(y))
    return loss if reduction == "none" or isinstance(loss, float) else loss.item()


def pointwise_loss_backward(pair, y, target, *parameters, reduction="mean"):
    """Gradient by y: dy_i = l'(y_i, t_i), over the mean's divisor.

    Parameters
    ----------
    pair, y, target, *parameters, reduction
        As in `pointwise_loss_forward`.

    Returns
    -------
    dy : array of y's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or for another reduction.

    Source
    ------
    Our derivation: d/dy of (y - t)^2, |y - t|, ...; of binary cross entropy, p - t as in seed 004.
    """
    y, target = check_arguments(y, target, reduction)
    dy = layout.empty_like(y)
    evaluate(pair, parameters, y, target, reduction, buffers(y, reduction), dy)
    return dy


def check_arguments(y, target, reduction):
    """Return both arrays in the memory order that kernels read."""
    check_reduction(reduction)
    y = check_array("y", y)
    target = check_array("target", target)
    check_shape("target", target, y.shape)
    check_same_dtype(y=y, target=target)
    return layout.channels_last(y), layout.channels_last(target)


def check_reduction(reduction, allowed=_REDUCTIONS):
    if reduction not in allowed:
        raise ValueError(f"reduction is {reduction!r}; expected one of {', '.join(allowed)}")


def buffers(y, reduction):
    """Allocate the losses of all elements, or their partial sums and behind those the loss."""
    if reduction == "none":
        return layout.empty_like(y)
    chunk = _GPU_CHUNK if layout.on_gpu(y) else _CHUNK
    return layout.empty((-(-y.size // chunk) + 1,), np.float64, y)


def evaluate(pair, parameters, y, target, reduction, losses, dy):
    """Fill `losses` (from `buffers`) and dy; return the loss, on the GPU an array of one."""
    twin, parameters = backend.twin("pointwise_loss", y), tuple(map(y.dtype.type, parameters))
    if reduction == "none":
        twin.loss_values(pair, parameters, y, target, losses, dy)
        return losses
    divisor = {"mean": y.size, "sum": 1, "batchmean": len(y)}[reduction]
    scale = 1 / divisor if divisor else 0.0
    partial, value = losses[:-1], losses[-1:]
    twin.loss_sums(pair, parameters, y, target, scale, partial, dy)
    twin.total(partial, scale if scale else math.nan, value)
    return value if layout.on_gpu(value) else value.item()
