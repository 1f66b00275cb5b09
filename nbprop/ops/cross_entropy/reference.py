"""Softmax cross entropy, term by term, with log p_c = z_c - log sum_j exp z_j."""

import math

import numpy as np

from nbprop import jit
from nbprop.ops.flat import rows


@jit.reference
def check_labels(labels, weight, ignore_index, checks):
    N, K = labels.size, checks.shape[1]
    for k in range(K):
        checks[0, k], checks[1, k] = -1, 0
        for r in range(N * k // K, N * (k + 1) // K):
            if labels[r] == ignore_index:
                continue
            if labels[r] < 0 or labels[r] >= weight.size:
                checks[0, k] = r if checks[0, k] < 0 else checks[0, k]
            else:
                checks[1, k] += weight[labels[r]]


def check_probabilities(target, checks):
    _check_probabilities(rows(target), checks)


@jit.reference
def _check_probabilities(target, checks):
    N, K = target.shape[0], checks.shape[1]
    for k in range(K):
        checks[0, k], checks[1, k] = -1, 0
        for r in range(N * k // K, N * (k + 1) // K):
            total = 0.0
            for c in range(target.shape[1]):
                total += target[r, c] if target[r, c] >= 0 else math.nan
            if checks[0, k] < 0 and not abs(total - 1) <= 1e-4:
                checks[0, k] = r
            checks[1, k] += 1


@jit.reference
def total(losses, checks, divisors, value):
    scale = _scale(divisors)
    value[0] = 0
    for r in range(losses.size):
        value[0] += losses[r]
    value[0] = value[0] * scale if scale and checks[0].max() < 0 else math.nan


@jit.reference
def _scale(divisors):
    divisor = divisors.sum()
    return 1 / divisor if divisor else 0.0


def from_labels(logits, labels, weight, ignore_index, label_smoothing, divisors, losses, dlogits):
    _from_labels(rows(logits), labels, weight, ignore_index, label_smoothing, _scale(divisors), losses, rows(dlogits))


@jit.reference
def _from_labels(logits, labels, weight, ignore_index, label_smoothing, scale, losses, dlogits):
    C = logits.shape[1]
    for r in range(logits.shape[0]):
        losses[r] = 0
        dlogits[r] = 0
        if labels[r] == ignore_index:
            continue
        if labels[r] < 0 or labels[r] >= C:
            losses[r] = math.nan
            dlogits[r] = math.nan
            continue
        log_p = _log_softmax(logits[r])
        p = np.exp(log_p)
        for c in range(C):
            q = weight[c] * label_smoothing / C
            if c == labels[r]:
                q += weight[c] * (1 - label_smoothing)
            losses[r] -= q * log_p[c]
            for k in range(C):
                dlogits[r, k] -= scale * q * ((k == c) - p[k])


def from_probabilities(logits, target, weight, label_smoothing, divisors, losses, dlogits):
    _from_probabilities(rows(logits), rows(target), weight, label_smoothing, _scale(divisors), losses, rows(dlogits))


@jit.reference
def _from_probabilities(logits, target, weight, label_smoothing, scale, losses, dlogits):
    C = logits.shape[1]
    for r in range(logits.shape[0]):
        losses[r] = 0
        dlogits[r] = 0
        log_p = _log_softmax(logits[r])
        p = np.exp(log_p)
        for c in range(C):
            q = weight[c] * (target[r, c] * (1 - label_smoothing) + label_smoothing / C)
            losses[r] -= q * log_p[c]
            for k in range(C):
                dlogits[r, k] -= scale * q * ((k == c) - p[k])


@jit.reference
def _log_softmax(z):
    total = 0.0
    for c in range(z.size):
        total += math.exp(z[c] - z.max())
    return z - z.max() - math.log(total)
