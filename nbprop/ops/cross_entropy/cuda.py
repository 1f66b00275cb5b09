"""Softmax cross entropy on the GPU: a row of logits per block, its largest and its sums of one fixed tree.

What a mean divides by is known only there: it is handed from kernel to kernel, and the host never waits.
"""

import functools
import math

import numpy as np

from nbprop import gpu, jit
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import row_threads
from nbprop.ops.flat import rows
from nbprop.ops.vecmath import exp, log


def check_labels(labels, weight, ignore_index, checks):
    _check_labels(gpu.THREADS)[checks.shape[1], gpu.THREADS](labels, weight, ignore_index, checks)


def check_probabilities(target, checks):
    _check_probabilities(gpu.THREADS)[checks.shape[1], gpu.THREADS](rows(target), checks)


def total(losses, checks, divisors, value):
    _total(gpu.THREADS)[1, gpu.THREADS](losses, checks, divisors, value)


def from_labels(logits, labels, weight, ignore_index, label_smoothing, divisors, losses, dlogits):
    z, d = rows(logits), rows(dlogits)
    T = z.dtype.type
    _run(_from_labels, z, labels, weight, ignore_index, T(1 - label_smoothing), T(label_smoothing / z.shape[1]),
         divisors, losses, d)  # fmt: skip


def from_probabilities(logits, target, weight, label_smoothing, divisors, losses, dlogits):
    z, q, d = rows(logits), rows(target), rows(dlogits)
    T = z.dtype.type
    _run(_from_probabilities, z, q, weight, T(1 - label_smoothing), T(label_smoothing / z.shape[1]), divisors,
         losses, d)  # fmt: skip


def _run(make, z, *arguments):
    if not z.size:
        return
    threads = row_threads(z.shape[1])
    make(threads, z.dtype)[min(len(z), 1 << 16), threads](z, *arguments)


@gpu.device
def _scale(divisors):
    """What gradients are multiplied by; 0 for the mean of nothing."""
    divisor = 0.0
    for k in range(divisors.size):
        divisor += divisors[k]
    return 1 / divisor if divisor != 0 else 0.0


@jit.scalar
def _first(a, b):
    """The smaller of two rows, -1 where there is none."""
    return a if b < 0 or 0 <= a < b else b


@functools.cache
def _check_labels(threads):
    sum_of, first_of = (gpu.reduction(combine, threads, np.float64) for combine in (gpu.add, _first))

    @gpu.kernel
    def check_labels(labels, weight, ignore_index, checks):
        k, K, N = cuda.blockIdx.x, checks.shape[1], labels.size
        bad, mine = -1.0, 0.0
        for r in range(N * k // K + cuda.threadIdx.x, N * (k + 1) // K, threads):
            t = labels[r]
            if t != ignore_index:
                if 0 <= t < weight.size:
                    mine += np.float64(weight[t])
                elif bad < 0:
                    bad = float(r)
        mine = sum_of(mine)
        bad = first_of(bad)
        if cuda.threadIdx.x == 0:
            checks[0, k], checks[1, k] = bad, mine if bad < 0 else math.nan

    return check_labels


@functools.cache
def _check_probabilities(threads):
    first_of = gpu.reduction(_first, threads, np.float64)

    @gpu.kernel
    def check_probabilities(target, checks):
        k, K, N = cuda.blockIdx.x, checks.shape[1], target.shape[0]
        bad = -1.0
        for r in range(N * k // K + cuda.threadIdx.x, N * (k + 1) // K, threads):
            mine = 0.0
            for c in range(target.shape[1]):
                mine += np.float64(target[r, c]) if target[r, c] >= 0 else math.nan
            if bad < 0 and not abs(mine - 1) <= 1e-4:
                bad = float(r)
        bad = first_of(bad)
        if cuda.threadIdx.x == 0:
            checks[0, k] = bad
            checks[1, k] = float(N * (k + 1) // K - N * k // K) if bad < 0 else math.nan

    return check_probabilities


@functools.cache
def _total(threads):
    sum_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel
    def total(losses, checks, divisors, value):
        whole = sum_of(gpu.thread_sum(losses, threads))
        if cuda.threadIdx.x == 0:
            scale = _scale(divisors)
            value[0] = whole * scale if scale != 0 else math.nan
            for k in range(checks.shape[1]):
                if checks[0, k] >= 0:
                    value[0] = math.nan

    return total


@functools.cache
def _exponentials(threads, dtype):
    """Make exponentials_of(z): a row's largest logit, and this thread's part of the sum of exp(z - largest)."""
    highest_of = gpu.reduction(gpu.larger, threads, dtype)

    @gpu.device
    def exponentials_of(z):
        C, first = z.size, cuda.threadIdx.x
        highest = z[min(first, C - 1)]
        for c in range(first + threads, C, threads):
            highest = gpu.larger(highest, z[c])
        highest = highest_of(highest)
        total = z.dtype.type(0)
        for c in range(first, C, threads):
            total += exp(z[c] - highest)
        return highest, total

    return exponentials_of


@functools.cache
def _from_labels(threads, dtype):
    exponentials_of, sum_of = _exponentials(threads, dtype), gpu.reduction(gpu.add, threads, dtype)

    @gpu.kernel
    def from_labels(logits, labels, weight, ignore_index, sharp, smooth, divisors, losses, dlogits):
        """With q_c = smooth w_c + [c = t] sharp w_t: loss = -sum q_c log p_c, gradient = p_c sum q - q_c."""
        C, first = logits.shape[1], cuda.threadIdx.x
        scale = logits.dtype.type(_scale(divisors))
        for r in range(cuda.blockIdx.x, logits.shape[0], cuda.gridDim.x):
            z, d, t = logits[r], dlogits[r], labels[r]
            highest, total = exponentials_of(z)
            total = sum_of(total)
            q, weights, product = z.dtype.type(0), z.dtype.type(0), z.dtype.type(0)
            if t != ignore_index:
                q = sharp * weight[t] if 0 <= t < C else z.dtype.type(math.nan)
            if smooth != 0:
                for c in range(first, C, threads):
                    weights += weight[c]
                    product += weight[c] * (z[c] - highest)
                weights = smooth * sum_of(weights)
                product = smooth * sum_of(product)
            if t == ignore_index:
                weights, product = z.dtype.type(0), z.dtype.type(0)
            if first == 0:
                log_total = log(total)
                at = z[min(max(t, 0), C - 1)]
                losses[r] = z.dtype.type(0)
                if t != ignore_index:
                    losses[r] = q * (log_total - (at - highest)) + (weights * log_total - product)
            factor = scale * (q + weights) / total
            for c in range(first, C, threads):
                if t == ignore_index:
                    d[c] = z.dtype.type(0)
                else:
                    own = q if c == t else z.dtype.type(0)
                    d[c] = exp(z[c] - highest) * factor - scale * (smooth * weight[c] + own)

    return from_labels


@functools.cache
def _from_probabilities(threads, dtype):
    exponentials_of, sum_of = _exponentials(threads, dtype), gpu.reduction(gpu.add, threads, dtype)

    @gpu.kernel
    def from_probabilities(logits, target, weight, sharp, smooth, divisors, losses, dlogits):
        """With q_c = w_c (sharp target_c + smooth): as above."""
        C, first = logits.shape[1], cuda.threadIdx.x
        scale = logits.dtype.type(_scale(divisors))
        for r in range(cuda.blockIdx.x, logits.shape[0], cuda.gridDim.x):
            z, d, share = logits[r], dlogits[r], target[r]
            highest, total = exponentials_of(z)
            total = sum_of(total)
            weights, product = z.dtype.type(0), z.dtype.type(0)
            for c in range(first, C, threads):
                q = weight[c] * (sharp * share[c] + smooth)
                weights += q
                product += q * (z[c] - highest)
            weights = sum_of(weights)
            product = sum_of(product)
            if first == 0:
                losses[r] = weights * log(total) - product
            factor = scale * weights / total
            for c in range(first, C, threads):
                d[c] = exp(z[c] - highest) * factor - scale * weight[c] * (sharp * share[c] + smooth)

    return from_probabilities
