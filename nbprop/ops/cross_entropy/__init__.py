"""Softmax cross entropy of logits (N, C) or (N, C, H, W), with torch's options."""

import numpy as np

from nbprop import backend, layout
from nbprop.shapes import check_array, check_same_dtype, check_shape

__all__ = ["check_options", "cross_entropy_backward", "cross_entropy_forward"]


def cross_entropy_forward(
    logits, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    """Cross entropy of softmax(logits): L_r = -sum_c w_c q_c log p_c with p = e^z / sum_j e^(z_j).

    For labels q_c = [c = t_r]; label smoothing makes it (1 - eps) q_c + eps / C. The mean divides by the sum
    of the labels' weights w_t, or by the number of rows for probabilities. log p is computed as
    z - max z - log sum_j e^(z_j - max z), which neither overflows nor loses a small p.

    Parameters
    ----------
    logits : array (N, C) or (N, C, H, W), float32 or float64
    target : integer array (N,) or (N, H, W), or array of logits' shape and dtype
        Class indices, or class probabilities that sum to 1.
    weight : array (C,), optional
        Weight of each class.
    ignore_index : int
        A label that takes no part: loss and gradient 0. Below 0 for probabilities, where there is none.
    reduction : str
        "mean", "sum", or "none": one loss per row.
    label_smoothing : float
        eps, 0 to 1.

    Returns
    -------
    loss : float, or array (N,) or (N, H, W)
        The mean is NaN where nothing takes part, as in torch.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, a label is no class, or probabilities do not sum to 1.

    Source
    ------
    Seed 004, "Softmax Cross-Entropy Loss Layer"; seed 000 has only the heading 5.2. Smoothing: Szegedy et al.
    2016, section 7.
    """
    logits, target = check_arguments(logits, target)
    weight = check_options(logits.shape[1], logits.dtype, weight, ignore_index, reduction, label_smoothing)
    losses, dlogits = buffers(logits)
    return evaluate(logits, target, weight, ignore_index, reduction, label_smoothing, losses, dlogits)


def cross_entropy_backward(
    logits, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0, dy=1.0
):
    """Gradient of the cross entropy by the logits: dz_c = dy (p_c sum_j w_j q_j - w_c q_c) / divisor.

    With labels and no weights, p_c - [c = t]: from log p_j = z_j - log sum_k e^(z_k) follows
    d(log p_j)/dz_c = [c = j] - p_c.

    Parameters
    ----------
    logits, target, weight, ignore_index, reduction, label_smoothing
        As in `cross_entropy_forward`.
    dy : float, or array of the losses' shape
        The gradient by the loss.

    Returns
    -------
    dlogits : array of logits' shape and dtype

    Raises
    ------
    ValueError
        As `cross_entropy_forward`.

    Source
    ------
    Seed 004: dL_i/dz_k = p_k - 1(y_i = k).
    """
    logits, target = check_arguments(logits, target)
    weight = check_options(logits.shape[1], logits.dtype, weight, ignore_index, reduction, label_smoothing)
    losses, dlogits = buffers(logits)
    evaluate(logits, target, weight, ignore_index, reduction, label_smoothing, losses, dlogits)
    times(dlogits, dy, losses, reduction)
    return dlogits


def check_arguments(logits, target):
    """Return both arrays in the memory order that kernels read: labels as int64."""
    logits = check_array("logits", logits, (2, 4))
    N, C, *size = logits.shape
    if C == 0:
        raise ValueError(f"logits has shape {logits.shape}; expected at least one class")
    target = np.asarray(target)
    if target.dtype.kind in "iu":
        check_shape("target", target, (N, *size))
        return layout.channels_last(logits), layout.contiguous(target.astype(np.int64, copy=False))
    if target.dtype.kind != "f":
        raise ValueError(f"target has dtype {target.dtype}; expected integer labels, or probabilities "
                         "of logits' dtype")
    check_shape("target", target, logits.shape)
    check_same_dtype(logits=logits, target=target)
    return layout.channels_last(logits), layout.channels_last(target)


def check_options(C, dtype, weight, ignore_index, reduction, label_smoothing):
    """Refuse options that make no sense; return the weights as an array (C,) of `dtype`."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is {reduction!r}; expected "mean", "sum" or "none"')
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing!r}; expected a number from 0 to 1")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise ValueError(f"ignore_index is {ignore_index!r}; expected an integer")
    if weight is None:
        return np.ones(C, dtype)
    weight = check_array("weight", weight, 1)
    check_shape("weight", weight, (C,))
    return layout.contiguous(weight.astype(dtype, copy=False))


def buffers(logits):
    """Allocate the losses, one per row, and dlogits."""
    N, _, *size = logits.shape
    return np.empty((N, *size), logits.dtype), layout.empty_like(logits)


def evaluate(logits, target, weight, ignore_index, reduction, label_smoothing, losses, dlogits):
    """Fill losses and dlogits from arrays that `check_arguments` made; return the loss."""
    twin = backend.twin("cross_entropy", logits)
    rows = losses.reshape(-1)
    if target.dtype == np.int64:
        labels = target.reshape(-1)
        bad, divisor = twin.check_labels(labels, weight, ignore_index)
        if bad >= 0:
            raise ValueError(f"target has the label {labels[bad]} at {_index(bad, target)}; expected 0 to "
                             f"{len(weight) - 1}, or ignore_index={ignore_index}")
        scale = _scale(reduction, divisor)
        twin.from_labels(logits, labels, weight, ignore_index, label_smoothing, scale, rows, dlogits)
    else:
        if ignore_index >= 0:
            raise ValueError(f"ignore_index is {ignore_index} and target has probabilities, not labels")
        bad, total = twin.check_probabilities(target)
        if bad >= 0:
            raise ValueError(f"target has probabilities that sum to {total:.6g}, or a negative one, at "
                             f"{_index(bad, losses)}; expected non-negative numbers that sum to 1")
        scale = _scale(reduction, rows.size)
        twin.from_probabilities(logits, target, weight, label_smoothing, scale, rows, dlogits)
    if reduction == "none":
        return losses
    return float(rows.sum(dtype=np.float64) * scale) if scale else float("nan")


def times(dlogits, dy, losses, reduction):
    """Multiply dlogits by the gradient by the loss, in place."""
    if reduction == "none":
        dy = np.asarray(dy, losses.dtype)
        if dy.ndim:
            check_shape("dy", dy, losses.shape)
            dy = dy[:, None]
    if np.ndim(dy) or dy != 1:
        np.multiply(dlogits, dy, out=dlogits)


def _scale(reduction, divisor):
    """Return what gradients are multiplied by; 0 for the mean of nothing."""
    if reduction != "mean":
        return 1.0
    return 1 / divisor if divisor else 0.0


def _index(row, like):
    index = np.unravel_index(row, like.shape)
    return int(index[0]) if like.ndim == 1 else tuple(map(int, index))
