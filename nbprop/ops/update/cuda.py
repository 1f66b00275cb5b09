"""Each update rule on the GPU as one pass over a vector, held back where `gate` has a number that is not finite.

The gate lies on the GPU: a diverged step leaves the weights alone without the host having to look.
"""

import functools
import math

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda


def sgd_update(w, dw, lr, weight_decay, gate):
    T = w.dtype.type
    _run(_sgd, w, dw, _open(gate, w), T(lr), T(weight_decay))


def sgd_momentum_update(w, dw, m, lr, momentum, dampening, weight_decay, nesterov, gate):
    T = w.dtype.type
    numbers = T(lr), T(momentum), T(1 - dampening), T(weight_decay), bool(nesterov)
    _run(_momentum, w, dw, m, _open(gate, w), *numbers)


def adam_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step, gate):
    # as on the CPU: one number per step instead of m_hat's and v_hat's denominators
    kept, added = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    T = w.dtype.type
    numbers = (T(beta1), T(1 - beta1), T(beta2), T(1 - beta2), T(kept), T(added), T(rate), T(root), T(eps))
    _run(_adam, w, dw, m, v, _open(gate, w), *numbers)


def health(x, partial):
    _sum_up(_zero_or_nan, x, partial)


def squared_norms(x, partial):
    _sum_up(_square, x, partial)


def _sum_up(term, x, partial):
    if partial.size:
        _sums(term, gpu.THREADS)[partial.size, gpu.THREADS](x, partial, -(-x.size // partial.size))


def _run(kernel, w, *arguments):
    if w.size:
        kernel[gpu.blocks(w.size), gpu.THREADS](w, *arguments)


def _open(gate, w):
    """A gate of no entries holds nothing back."""
    return w[:0] if gate is None else gate


@gpu.device
def _held(gate):
    return gate.size > 0 and not math.isfinite(gate[0])


@gpu.kernel
def _sgd(w, dw, gate, lr, weight_decay):
    if _held(gate):
        return
    for i in range(cuda.grid(1), w.size, cuda.gridsize(1)):
        w[i] -= lr * (dw[i] + weight_decay * w[i])


@gpu.kernel
def _momentum(w, dw, m, gate, lr, momentum, fresh, weight_decay, nesterov):
    if _held(gate):
        return
    for i in range(cuda.grid(1), w.size, cuda.gridsize(1)):
        g = dw[i] + weight_decay * w[i]
        moved = momentum * m[i] + fresh * g
        m[i] = moved
        w[i] -= lr * (g + momentum * moved if nesterov else moved)


@gpu.kernel
def _adam(w, dw, m, v, gate, beta1, fresh1, beta2, fresh2, kept, weight_decay, rate, root, eps):
    if _held(gate):
        return
    for i in range(cuda.grid(1), w.size, cuda.gridsize(1)):
        g = dw[i] + weight_decay * w[i]
        mean = beta1 * m[i] + fresh1 * g
        square = beta2 * v[i] + fresh2 * g * g
        m[i], v[i] = mean, square
        w[i] = kept * w[i] - rate * mean / (math.sqrt(square) * root + eps)


@gpu.device
def _zero_or_nan(x):
    return 0.0 if math.isfinite(x) else math.nan


@gpu.device
def _square(x):
    return np.float64(x) * np.float64(x)


@functools.cache
def _sums(term, threads):
    """Make the kernel in which block k sums a term for each entry of chunk k in float64."""
    total = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel
    def sums(x, partial, chunk):
        k = cuda.blockIdx.x
        mine = 0.0
        for i in range(np.int64(k) * chunk + cuda.threadIdx.x, min((k + 1) * np.int64(chunk), x.size), threads):
            mine += term(x[i])
        mine = total(mine)
        if cuda.threadIdx.x == 0:
            partial[k] = mine

    return sums
