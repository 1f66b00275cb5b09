"""Activations, one element after the other: seed 000, equations 1 to 3."""

import functools

from nbprop import jit
from nbprop.ops.activation.theta import column
from nbprop.ops.flat import flat, rows


def activation_forward(pair, parameters, x, y):
    _same(pair)[0](parameters, flat(x), flat(y))


def activation_backward(pair, parameters, s, dy, dx):
    _same(pair)[1](parameters, flat(s), flat(dy), flat(dx))


def learned_forward(pair, theta, x, y):
    _by_channel(pair)[0](theta, rows(x), rows(y))


def learned_backward_input(pair, theta, s, dy, dx):
    _by_channel(pair)[1](theta, rows(s), rows(dy), rows(dx))


def learned_backward_parameters(pair, theta, x, dy, partial):
    for i in range(len(theta)):
        _by_channel(pair)[2 + i](theta, rows(x), rows(dy), partial[i])


@jit.reference
def learned_gradient(partial, grad):
    """Add up what belongs to each learned value: its channel's partial sums, or those of all channels."""
    grad[:] = 0
    for k in range(partial.shape[0]):
        for c in range(partial.shape[1]):
            grad[c if grad.size > 1 else 0] += partial[k, c]


@functools.cache
def _same(pair):
    """Loops for parameters that all elements share."""
    value, slope = pair.value, pair.slope

    @jit.reference
    def forward(parameters, x, y):
        for i in range(x.size):
            y[i] = value(x[i], *parameters)

    @jit.reference
    def backward(parameters, s, dy, dx):
        for i in range(s.size):
            dx[i] = dy[i] * slope(s[i], *parameters)

    return forward, backward


@functools.cache
def _by_channel(pair):
    """Loops for parameters theta (parameters, C); a row is a sample, or a pixel."""
    value, slope, at = pair.value, pair.slope, column(len(pair.parameters))

    @jit.reference
    def forward(theta, x, y):
        for r in range(x.shape[0]):
            for c in range(x.shape[1]):
                y[r, c] = value(x[r, c], *at(theta, c))

    @jit.reference
    def backward_input(theta, s, dy, dx):
        for r in range(s.shape[0]):
            for c in range(s.shape[1]):
                dx[r, c] = dy[r, c] * slope(s[r, c], *at(theta, c))

    return forward, backward_input, *(_parameter_gradient(f, at) for f in pair.parameter_slopes)


def _parameter_gradient(slope, at):
    @jit.reference
    def backward_parameter(theta, x, dy, partial):
        K = partial.shape[0]
        partial[...] = 0
        for k in range(K):
            for r in range(x.shape[0] * k // K, x.shape[0] * (k + 1) // K):
                for c in range(x.shape[1]):
                    partial[k, c] += dy[r, c] * slope(x[r, c], *at(theta, c))

    return backward_parameter
