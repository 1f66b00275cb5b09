"""Softmax cross entropy, term by term, with log p_c = z_c - log sum_j exp z_j."""

import math

from nbprop import jit
from nbprop.ops.flat import rows


def check_labels(labels, weight, ignore_index):
    return _check_labels(labels, weight, ignore_index)


@jit.reference
def _check_labels(labels, weight, ignore_index):
    bad, total = -1, 0.0
    for r in range(labels.size):
        if labels[r] == ignore_index:
            continue
        if labels[r] < 0 or labels[r] >= weight.size:
            bad = r if bad < 0 else bad
        else:
            total += weight[labels[r]]
    return bad, total


def check_probabilities(target):
    return _check_probabilities(rows(target))


@jit.reference
def _check_probabilities(target):
    for r in range(target.shape[0]):
        total = 0.0
        for c in range(target.shape[1]):
            total += target[r, c] if target[r, c] >= 0 else math.nan
        if not abs(total - 1) <= 1e-4:
            return r, total
    return -1, 1.0


def from_labels(logits, labels, weight, ignore_index, label_smoothing, scale, losses, dlogits):
    _from_labels(rows(logits), labels, weight, ignore_index, label_smoothing, scale, losses, rows(dlogits))


@jit.reference
def _from_labels(logits, labels, weight, ignore_index, label_smoothing, scale, losses, dlogits):
    C = logits.shape[1]
    for r in range(logits.shape[0]):
        losses[r] = 0
        dlogits[r] = 0
        if labels[r] == ignore_index:
            continue
        log_p = _log_softmax(logits[r])
        for c in range(C):
            q = weight[c] * label_smoothing / C
            if c == labels[r]:
                q += weight[c] * (1 - label_smoothing)
            losses[r] -= q * log_p[c]
            for k in range(C):
                dlogits[r, k] -= scale * q * ((k == c) - math.exp(log_p[k]))


def from_probabilities(logits, target, weight, label_smoothing, scale, losses, dlogits):
    _from_probabilities(rows(logits), rows(target), weight, label_smoothing, scale, losses, rows(dlogits))


@jit.reference
def _from_probabilities(logits, target, weight, label_smoothing, scale, losses, dlogits):
    C = logits.shape[1]
    for r in range(logits.shape[0]):
        losses[r] = 0
        dlogits[r] = 0
        log_p = _log_softmax(logits[r])
        for c in range(C):
            q = weight[c] * (target[r, c] * (1 - label_smoothing) + label_smoothing / C)
            losses[r] -= q * log_p[c]
            for k in range(C):
                dlogits[r, k] -= scale * q * ((k == c) - math.exp(log_p[k]))


@jit.reference
def _log_softmax(z):
    total = 0.0
    for c in range(z.size):
        total += math.exp(z[c] - z.max())
    return z - z.max() - math.log(total)
