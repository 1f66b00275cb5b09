"""Each update rule as one pass over memory, which is what it costs: each vector is read and written once.

`gate`, where it is given, is an array whose first entry holds the step back unless it is finite.

Numbers reach the kernels as float64 and become those of the vectors' dtype there: to make a NumPy scalar of one takes
as long as to update a thousand elements.
"""

import math

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops.flat import bound, tasks


@jit.kernel
def _sgd(w, dw, lr, weight_decay):
    T = w.dtype.type
    lr, weight_decay = T(lr), T(weight_decay)
    for i in range(w.size):
        w[i] -= lr * (dw[i] + weight_decay * w[i])


@jit.driver
def _sgd_tasks(w, dw, lr, weight_decay, tasks):
    for t in prange(0, tasks):
        a, b = bound(t, w.size, tasks), bound(t + 1, w.size, tasks)
        _sgd(w[a:b], dw[a:b], lr, weight_decay)


def sgd_update(w, dw, lr, weight_decay, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    lr, weight_decay, count = float(lr), float(weight_decay), tasks(w.size)
    if count == 1:
        _sgd(w, dw, lr, weight_decay)
    else:
        _sgd_tasks(w, dw, lr, weight_decay, count)


@jit.kernel
def _momentum(w, dw, m, lr, momentum, fresh, weight_decay, nesterov):
    T = w.dtype.type
    lr, momentum, fresh, weight_decay = T(lr), T(momentum), T(fresh), T(weight_decay)
    for i in range(w.size):
        g = dw[i] + weight_decay * w[i]
        m[i] = momentum * m[i] + fresh * g
        w[i] -= lr * (g + momentum * m[i] if nesterov else m[i])


@jit.driver
def _momentum_tasks(w, dw, m, lr, momentum, fresh, weight_decay, nesterov, tasks):
    for t in prange(0, tasks):
        a, b = bound(t, w.size, tasks), bound(t + 1, w.size, tasks)
        _momentum(w[a:b], dw[a:b], m[a:b], lr, momentum, fresh, weight_decay, nesterov)


def sgd_momentum_update(w, dw, m, lr, momentum, dampening, weight_decay, nesterov, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    count = tasks(w.size)
    numbers = float(lr), float(momentum), 1.0 - dampening, float(weight_decay), bool(nesterov)
    if count == 1:
        _momentum(w, dw, m, *numbers)
    else:
        _momentum_tasks(w, dw, m, *numbers, count)


@jit.kernel
def _adam(w, dw, m, v, beta1, fresh1, beta2, fresh2, kept, weight_decay, rate, root, eps):
    T = w.dtype.type
    beta1, fresh1, beta2, fresh2 = T(beta1), T(fresh1), T(beta2), T(fresh2)
    kept, weight_decay, rate, root, eps = T(kept), T(weight_decay), T(rate), T(root), T(eps)
    for i in range(w.size):
        g = dw[i] + weight_decay * w[i]
        m[i] = beta1 * m[i] + fresh1 * g
        v[i] = beta2 * v[i] + fresh2 * g * g
        w[i] = kept * w[i] - rate * m[i] / (np.sqrt(v[i]) * root + eps)


@jit.driver
def _adam_tasks(w, dw, m, v, beta1, fresh1, beta2, fresh2, kept, weight_decay, rate, root, eps, tasks):
    for t in prange(0, tasks):
        a, b = bound(t, w.size, tasks), bound(t + 1, w.size, tasks)
        part = w[a:b], dw[a:b], m[a:b], v[a:b]
        _adam(*part, beta1, fresh1, beta2, fresh2, kept, weight_decay, rate, root, eps)


def adam_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    # m_hat and v_hat's denominators are one number per step: into the rate, and out of the root
    kept, added = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    numbers = map(float, (beta1, 1 - beta1, beta2, 1 - beta2, kept, added, rate, root, eps))
    count = tasks(w.size)
    if count == 1:
        _adam(w, dw, m, v, *numbers)
    else:
        _adam_tasks(w, dw, m, v, *numbers, count)


@jit.kernel(reassoc=True)
def _squared_norm(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@jit.kernel
def _squared_norms(x, partial, chunk):
    for k in range(partial.size):
        partial[k] = _squared_norm(x[k * chunk : (k + 1) * chunk])


@jit.driver
def _squared_norms_tasks(x, partial, chunk):
    for k in prange(0, partial.size):
        partial[k] = _squared_norm(x[k * chunk : (k + 1) * chunk])


def squared_norms(x, partial):
    chunk = -(-x.size // max(partial.size, 1))
    (_squared_norms if tasks(x.size) == 1 else _squared_norms_tasks)(x, partial, chunk)
