"""The update rules, one element after the other, as torch.optim documents them."""

import math

from nbprop import jit


@jit.reference
def sgd_update(w, dw, lr, weight_decay, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    for i in range(w.size):
        w[i] -= lr * (dw[i] + weight_decay * w[i])


@jit.reference
def sgd_momentum_update(w, dw, m, lr, momentum, dampening, weight_decay, nesterov, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    for i in range(w.size):
        g = dw[i] + weight_decay * w[i]
        m[i] = momentum * m[i] + (1 - dampening) * g
        if nesterov:
            w[i] -= lr * (g + momentum * m[i])
        else:
            w[i] -= lr * m[i]


@jit.reference
def adam_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step, gate):
    if gate is not None and not math.isfinite(gate[0]):
        return
    for i in range(w.size):
        g = dw[i]
        if decoupled:
            w[i] -= lr * weight_decay * w[i]
        else:
            g += weight_decay * w[i]
        m[i] = beta1 * m[i] + (1 - beta1) * g
        v[i] = beta2 * v[i] + (1 - beta2) * g * g
        m_hat = m[i] / (1 - beta1**step)
        v_hat = v[i] / (1 - beta2**step)
        w[i] -= lr * m_hat / (math.sqrt(v_hat) + eps)


@jit.reference
def health(x, partial):
    """Fill partial with 0, or NaN for a chunk of x with an entry that is not finite."""
    chunk = -(-x.size // max(partial.size, 1))
    for k in range(partial.size):
        partial[k] = 0
    for i in range(x.size):
        if not math.isfinite(x[i]):
            partial[i // chunk] = math.nan


@jit.reference
def squared_norms(x, partial):
    chunk = -(-x.size // max(partial.size, 1))
    for k in range(partial.size):
        partial[k] = 0
    for i in range(x.size):
        partial[i // chunk] += float(x[i]) ** 2
