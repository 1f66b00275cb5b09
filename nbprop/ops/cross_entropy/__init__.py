"""Softmax cross entropy of logits (N, C) or (N, C, H, W), with torch's options."""

from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout, tape
from nbprop.shapes import check_array, check_same_dtype, check_same_place, check_shape

__all__ = ["check_options", "cross_entropy_backward", "cross_entropy_forward"]

LAUNCHED = "check_labels", "from_labels", "check_probabilities", "from_probabilities", "total"  # by `launch`
_CHUNK, _CHUNKS = 1 << 11, 64  # rows that one block of the GPU checks, and the most blocks that share the work


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
    weight = check_options(logits, weight, ignore_index, reduction, label_smoothing)
    p = _evaluate(logits, target, weight, ignore_index, reduction, label_smoothing)
    return p.losses if reduction == "none" else p.value.item()


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
    weight = check_options(logits, weight, ignore_index, reduction, label_smoothing)
    p = _evaluate(logits, target, weight, ignore_index, reduction, label_smoothing)
    times(p.dlogits, dy, p.losses, reduction)
    return p.dlogits


def check_arguments(logits, target):
    """Return both arrays in the memory order that kernels read: labels as int64."""
    logits = check_array("logits", logits, (2, 4))
    N, C, *size = logits.shape
    if C == 0:
        raise ValueError(f"logits has shape {logits.shape}; expected at least one class")
    target = layout.gpu().as_array(target) if layout.on_gpu(target) else np.asarray(target)
    if type(target) is not type(logits):
        check_same_place(logits=logits, target=target)
    if target.dtype.kind in "iu":
        check_shape("target", target, (N, *size))
        return layout.channels_last(logits), layout.contiguous(target.astype(np.int64, copy=False))
    if target.dtype.kind != "f":
        raise ValueError(f"target has dtype {target.dtype}; expected integer labels, or probabilities "
                         "of logits' dtype")
    check_shape("target", target, logits.shape)
    check_same_dtype(logits=logits, target=target)
    return layout.channels_last(logits), layout.channels_last(target)


def check_options(like, weight, ignore_index, reduction, label_smoothing):
    """Refuse options that make no sense; return the weights as an array (C,) beside and of the dtype of logits."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is {reduction!r}; expected "mean", "sum" or "none"')
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing!r}; expected a number from 0 to 1")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise ValueError(f"ignore_index is {ignore_index!r}; expected an integer")
    C = like.shape[1]
    if weight is None:
        return layout.full((C,), 1, like.dtype, like)
    weight = check_array("weight", weight, 1)
    check_shape("weight", weight, (C,))
    weight = layout.contiguous(weight.astype(like.dtype, copy=False))
    return layout.gpu().to_device(weight) if layout.on_gpu(like) and not layout.on_gpu(weight) else weight


def buffers(logits, reduction):
    """Allocate what `launch` fills, beside the logits.

    losses: one per row; rows: a flat view of them. checks[0]: the first bad row of each chunk of rows, or -1.
    checks[1]: what a mean divides by, chunk by chunk. divisors: those, or 1 for the other reductions. value: the loss.
    """
    N, _, *size = logits.shape
    losses = layout.empty((N, *size), logits.dtype, logits)
    on_gpu = layout.on_gpu(logits)
    chunks = min(-(-losses.size // _CHUNK), _CHUNKS) if on_gpu else 1
    checks = layout.zeros((2, max(chunks, 1)), np.float64, logits)
    divisors = checks[1] if reduction == "mean" else layout.full((1,), 1.0, np.float64, logits)
    return SimpleNamespace(on_gpu=on_gpu, losses=losses, rows=losses.reshape(-1), dlogits=layout.empty_like(logits),
                           checks=checks, divisors=divisors, value=layout.zeros((1,), np.float64, logits))


def _evaluate(logits, target, weight, ignore_index, *options):
    p = buffers(logits, options[0])
    launch(backend.twin("cross_entropy", logits), logits, target, weight, ignore_index, *options, p)
    refuse(target, weight, ignore_index, p)
    return p


def launch(twin, logits, target, weight, ignore_index, reduction, label_smoothing, p):
    """Fill p, from `buffers`, for arrays that `check_arguments` made. The total is NaN where `refuse` would raise."""
    if target.dtype == np.int64:
        labels = target if target.ndim == 1 else target.reshape(-1)
        twin.check_labels(labels, weight, ignore_index, p.checks)
        twin.from_labels(logits, labels, weight, ignore_index, label_smoothing, p.divisors, p.rows, p.dlogits)
    else:
        if ignore_index >= 0:
            raise ValueError(f"ignore_index is {ignore_index} and target has probabilities, not labels")
        twin.check_probabilities(target, p.checks)
        twin.from_probabilities(logits, target, weight, label_smoothing, p.divisors, p.rows, p.dlogits)
    if reduction != "none":
        twin.total(p.rows, p.checks, p.divisors, p.value)


def refuse(target, weight, ignore_index, p):
    """Refuse a bad target by name; on the GPU this waits for it."""
    if not p.on_gpu and p.checks.item(0) < 0:
        return
    if target.dtype == np.int64:
        _refuse_label(p.checks, target, weight.size, ignore_index)
    else:
        _refuse_probabilities(p.checks, target, p.losses)


def _refuse_label(checks, target, classes, ignore_index):
    row = _first_bad(checks)
    if row >= 0:
        at = _index(row, target)
        raise ValueError(f"target has the label {_on_host(target)[at]} at {at}; expected 0 to {classes - 1}, or "
                         f"ignore_index={ignore_index}")


def _refuse_probabilities(checks, target, losses):
    row = _first_bad(checks)
    if row >= 0:
        at = _index(row, losses)
        q = np.moveaxis(_on_host(target), 1, -1)[at]
        raise ValueError(f"target has probabilities that sum to {q.sum(dtype=np.float64):.6g}, or a negative one, at "
                         f"{at}; expected non-negative numbers that sum to 1")


def _first_bad(checks):
    bad = _on_host(checks)[0]
    return int(min(bad[bad >= 0], default=-1))


def _on_host(a):
    return layout.gpu().to_host(a) if layout.on_gpu(a) else a


def times(dlogits, dy, losses, reduction):
    """Multiply dlogits by the gradient by the loss, in place."""
    if isinstance(dy, float) and dy == 1:
        return
    tape.flush()  # NumPy multiplies what is there
    if reduction == "none" and not isinstance(dy, (int, float)):
        dy = layout.gpu().as_array(dy) if layout.on_gpu(dy) else np.asarray(dy, losses.dtype)
        if dy.ndim:
            check_shape("dy", dy, losses.shape)
            dy = dy[:, None]
    layout.multiply(dlogits, dy)


def _index(row, like):
    index = np.unravel_index(row, like.shape)
    return int(index[0]) if like.ndim == 1 else tuple(map(int, index))
