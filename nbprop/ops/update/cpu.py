"""Each update rule as one pass over memory, which is what it costs: each vector is read and written once.

`gate`, where it is given, is an array whose first entry holds the step back unless it is finite.

Numbers reach the kernels as float64 and become those of the vectors' dtype there: to make a NumPy scalar of one takes
as long as to update a thousand elements.
"""

import math

import numpy as np

from nbprop import jit
from nbprop.ops.flat import share, stretch, tasks
from nbprop.tape import launches


@jit.driver
def _sgd(w, dw, lr, weight_decay, task, tasks):
    begin, end = stretch(w.size, task, tasks)
    w, dw = w[begin:end], dw[begin:end]
    T = w.dtype.type
    lr, weight_decay = T(lr), T(weight_decay)
    for i in range(w.size):
        w[i] -= lr * (dw[i] + weight_decay * w[i])


def sgd_update(w, dw, lr, weight_decay, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    _sgd(w, dw, float(lr), float(weight_decay), tasks(w.size))


@jit.driver
def _momentum(w, dw, m, lr, momentum, fresh, weight_decay, nesterov, task, tasks):
    begin, end = stretch(w.size, task, tasks)
    w, dw, m = w[begin:end], dw[begin:end], m[begin:end]
    T = w.dtype.type
    lr, momentum, fresh, weight_decay = T(lr), T(momentum), T(fresh), T(weight_decay)
    for i in range(w.size):
        g = dw[i] + weight_decay * w[i]
        m[i] = momentum * m[i] + fresh * g
        w[i] -= lr * (g + momentum * m[i] if nesterov else m[i])


def sgd_momentum_update(w, dw, m, lr, momentum, dampening, weight_decay, nesterov, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    numbers = float(lr), float(momentum), 1.0 - dampening, float(weight_decay), bool(nesterov)
    _momentum(w, dw, m, *numbers, tasks(w.size))


@jit.driver
def _adam(w, dw, m, v, beta1, fresh1, beta2, fresh2, kept, weight_decay, rate, root, eps, task, tasks):
    begin, end = stretch(w.size, task, tasks)
    w, dw, m, v = w[begin:end], dw[begin:end], m[begin:end], v[begin:end]
    T = w.dtype.type
    beta1, fresh1, beta2, fresh2 = T(beta1), T(fresh1), T(beta2), T(fresh2)
    kept, weight_decay, rate, root, eps = T(kept), T(weight_decay), T(rate), T(root), T(eps)
    for i in range(w.size):
        g = dw[i] + weight_decay * w[i]
        m[i] = beta1 * m[i] + fresh1 * g
        v[i] = beta2 * v[i] + fresh2 * g * g
        w[i] = kept * w[i] - rate * m[i] / (np.sqrt(v[i]) * root + eps)


def adam_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    # m_hat and v_hat's denominators are one number per step: into the rate, and out of the root
    kept, added = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    numbers = map(float, (beta1, 1 - beta1, beta2, 1 - beta2, kept, added, rate, root, eps))
    _adam(w, dw, m, v, *numbers, tasks(w.size))


@jit.kernel(reassoc=True)
def _zero_or_nan(x):
    """0 x is NaN where x is not finite; squares would have to be summed in float64, which takes half as long again."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x.dtype.type(0) * x[i]
    return total


@jit.driver
def _health(x, partial, chunk, task, tasks):
    for k in range(*share(partial.size, task, tasks)):
        partial[k] = _zero_or_nan(x[k * chunk : (k + 1) * chunk])


@launches
def health(x, partial):
    _health(x, partial, -(-x.size // max(partial.size, 1)), tasks(x.size))


@jit.kernel(reassoc=True)
def _squared_norm(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@jit.driver
def _squared_norms(x, partial, chunk, task, tasks):
    for k in range(*share(partial.size, task, tasks)):
        partial[k] = _squared_norm(x[k * chunk : (k + 1) * chunk])


def squared_norms(x, partial):
    chunk = -(-x.size // max(partial.size, 1))
    _squared_norms(x, partial, chunk, tasks(x.size))
