"""Softmax cross entropy: value and gradient in one pass over the logits, row by row.

A row of dlogits first holds exp(z - max z), then, scaled, the gradient: it stays in the first-level cache
between the two. Each row's loss is stored, and added up by the caller in order.
"""

import numpy as np

from nbprop import jit
from nbprop.ops.exponentials import exponentials
from nbprop.ops.flat import rows, share, tasks
from nbprop.ops.vecmath import log, maximum
from nbprop.tape import launches


@launches
def check_labels(labels, weight, ignore_index, checks):
    _check_labels(labels, weight, ignore_index, checks, 1)


@jit.driver
def _check_labels(labels, weight, ignore_index, checks, task, tasks):
    """For each chunk of rows, fill checks with the first that has a bad label, or -1, and all weights' sum."""
    K = checks.shape[1]
    for k in range(*share(K, task, tasks)):
        bad, total = -1, 0.0
        for r in range(labels.size * k // K, labels.size * (k + 1) // K):
            t = labels[r]
            if t == ignore_index:
                continue
            if t < 0 or t >= weight.size:
                bad = r if bad < 0 else bad
            else:
                total += weight[t]
        checks[0, k], checks[1, k] = bad, total


@launches
def check_probabilities(target, checks):
    _check_probabilities(rows(target), checks, 1)


@jit.driver
def _check_probabilities(target, checks, task, tasks):
    """For each chunk of rows, fill checks with the first that is no distribution, or -1, and the rows' number."""
    N, K = len(target), checks.shape[1]
    for k in range(*share(K, task, tasks)):
        bad = -1
        for r in range(N * k // K, N * (k + 1) // K):
            lowest, total = _lowest_and_sum(target[r])
            if bad < 0 and not (lowest >= 0 and abs(total - 1) <= 1e-4):
                bad = r
        checks[0, k], checks[1, k] = bad, N * (k + 1) // K - N * k // K


@launches
def total(losses, checks, divisors, value):
    _total(losses, checks, divisors, value, 1)


@jit.driver
def _total(losses, checks, divisors, value, task, tasks):
    scale = _scale(divisors)
    value[0] = _sum(losses) * scale if scale != 0 else np.nan
    for k in range(checks.shape[1]):
        if checks[0, k] >= 0:
            value[0] = np.nan


@jit.kernel(reassoc=True)
def _sum(losses):
    total = 0.0
    for r in range(losses.size):
        total += np.float64(losses[r])
    return total


@jit.kernel
def _scale(divisors):
    """Return what gradients are multiplied by; 0 for the mean of nothing."""
    divisor = 0.0
    for i in range(divisors.size):
        divisor += divisors[i]
    return 1 / divisor if divisor != 0 else 0.0


@jit.kernel(reassoc=True)
def _lowest_and_sum(q):
    total, lowest = 0.0, -q[0]
    for c in range(q.size):
        total += q[c]
        lowest = maximum(lowest, -q[c])
    return -lowest, total


@jit.kernel(reassoc=True)
def _weighted_sum(weight, z, highest):
    """Return the sums of weight and of weight (z - highest)."""
    total, product = z.dtype.type(0), z.dtype.type(0)
    for c in range(z.size):
        total += weight[c]
        product += weight[c] * (z[c] - highest)
    return total, product


@jit.driver
def _labels_rows(logits, labels, weight, ignore_index, sharp, smooth, divisors, losses, dlogits, task, tasks):
    """With q_c = smooth w_c + [c = t] sharp w_t: loss = -sum q_c log p_c, gradient = p_c sum q - q_c."""
    begin, end = share(len(logits), task, tasks)
    T = logits.dtype.type
    sharp, smooth, scale = T(sharp), T(smooth), T(_scale(divisors))
    for r in range(begin, end):
        z, d, t = logits[r], dlogits[r], labels[r]
        if t == ignore_index:
            losses[r] = 0
            d[:] = 0
            continue
        if t < 0 or t >= weight.size:  # the caller refuses it when all is done
            losses[r] = np.nan
            d[:] = np.nan
            continue
        highest, total = exponentials(z, d)
        log_total = log(total)
        q = sharp * weight[t]
        losses[r] = q * (log_total - (z[t] - highest))
        if smooth == 0:
            factor = scale * q / total
            for c in range(d.size):
                d[c] *= factor
        else:
            weights, product = _weighted_sum(weight, z, highest)
            losses[r] += smooth * (weights * log_total - product)
            factor = scale * (q + smooth * weights) / total
            for c in range(d.size):
                d[c] = d[c] * factor - scale * smooth * weight[c]
        d[t] -= scale * q


@launches
def from_labels(logits, labels, weight, ignore_index, label_smoothing, divisors, losses, dlogits):
    z, d = rows(logits), rows(dlogits)
    numbers = 1.0 - label_smoothing, label_smoothing / z.shape[1], divisors
    _labels_rows(z, labels, weight, ignore_index, *numbers, losses, d, tasks(z.size))


@jit.kernel(reassoc=True)
def _distribution_sum(z, target, weight, sharp, smooth, highest):
    """With q_c = w_c (sharp target_c + smooth): return the sums of q and of q (z - highest)."""
    weights, product = z.dtype.type(0), z.dtype.type(0)
    for c in range(z.size):
        q = weight[c] * (sharp * target[c] + smooth)
        weights += q
        product += q * (z[c] - highest)
    return weights, product


@jit.kernel
def _distribution_row(z, target, weight, sharp, smooth, scale, d):
    """Fill the gradient p_c sum q - q_c, return the loss."""
    highest, total = exponentials(z, d)
    weights, product = _distribution_sum(z, target, weight, sharp, smooth, highest)
    factor = scale * weights / total
    for c in range(z.size):
        d[c] = d[c] * factor - scale * weight[c] * (sharp * target[c] + smooth)
    return weights * log(total) - product


@jit.driver
def _distribution_rows(logits, target, weight, sharp, smooth, divisors, losses, dlogits, task, tasks):
    begin, end = share(len(logits), task, tasks)
    T = logits.dtype.type
    sharp, smooth, scale = T(sharp), T(smooth), T(_scale(divisors))
    for r in range(begin, end):
        losses[r] = _distribution_row(logits[r], target[r], weight, sharp, smooth, scale, dlogits[r])


@launches
def from_probabilities(logits, target, weight, label_smoothing, divisors, losses, dlogits):
    z, q, d = rows(logits), rows(target), rows(dlogits)
    numbers = 1.0 - label_smoothing, label_smoothing / z.shape[1], divisors
    _distribution_rows(z, q, weight, *numbers, losses, d, tasks(z.size))
