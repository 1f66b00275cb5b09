"""Activations as passes over memory: flat where parameters are shared, channel lanes where they are learned.

The kernels of a pair are made at its first use. A driver splits flat memory evenly at cache lines; the sums
in learned parameters' gradients go over fixed parts of the rows, in float64.
"""

import functools

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops.activation.theta import column
from nbprop.ops.flat import bound, flat, rows, tasks


def activation_forward(pair, parameters, x, y):
    forward, forward_tasks, _, _ = _same(pair)
    x, y, count = flat(x), flat(y), tasks(x.size)
    if count == 1:
        forward(parameters, x, y)
    else:
        forward_tasks(parameters, x, y, count)


def activation_backward(pair, parameters, s, dy, dx):
    _, _, backward, backward_tasks = _same(pair)
    s, dy, dx, count = flat(s), flat(dy), flat(dx), tasks(s.size)
    if count == 1:
        backward(parameters, s, dy, dx)
    else:
        backward_tasks(parameters, s, dy, dx, count)


def learned_forward(pair, theta, x, y):
    _by_channel(pair)[0](theta, rows(x), rows(y), tasks(x.size))


def learned_backward_input(pair, theta, s, dy, dx):
    _by_channel(pair)[1](theta, rows(s), rows(dy), rows(dx), tasks(s.size))


def learned_backward_parameters(pair, theta, x, dy, partial):
    for i in range(len(theta)):
        _by_channel(pair)[2 + i](theta, rows(x), rows(dy), partial[i])


def learned_gradient(partial, grad):
    sums = partial.sum(axis=0)
    grad[...] = sums if grad.size > 1 else sums.sum()


@functools.cache
def _same(pair):
    value, slope = pair.value, pair.slope

    @jit.kernel(allocates=True)
    def forward(parameters, x, y):
        for i in range(x.size):
            y[i] = value(x[i], *parameters)

    @jit.driver(allocates=True)
    def forward_tasks(parameters, x, y, tasks):
        for t in prange(0, tasks):
            a, b = bound(t, x.size, tasks), bound(t + 1, x.size, tasks)
            forward(parameters, x[a:b], y[a:b])

    @jit.kernel(allocates=True)
    def backward(parameters, s, dy, dx):
        for i in range(s.size):
            dx[i] = dy[i] * slope(s[i], *parameters)

    @jit.driver(allocates=True)
    def backward_tasks(parameters, s, dy, dx, tasks):
        for t in prange(0, tasks):
            a, b = bound(t, s.size, tasks), bound(t + 1, s.size, tasks)
            backward(parameters, s[a:b], dy[a:b], dx[a:b])

    return forward, forward_tasks, backward, backward_tasks


@functools.cache
def _by_channel(pair):
    value, slope, at = pair.value, pair.slope, column(len(pair.parameters))

    @jit.driver(allocates=True)
    def forward(theta, x, y, tasks):
        for t in prange(0, tasks):
            for r in range(x.shape[0] * t // tasks, x.shape[0] * (t + 1) // tasks):
                for c in range(x.shape[1]):
                    y[r, c] = value(x[r, c], *at(theta, c))

    @jit.driver(allocates=True)
    def backward_input(theta, s, dy, dx, tasks):
        for t in prange(0, tasks):
            for r in range(s.shape[0] * t // tasks, s.shape[0] * (t + 1) // tasks):
                for c in range(s.shape[1]):
                    dx[r, c] = dy[r, c] * slope(s[r, c], *at(theta, c))

    return forward, backward_input, *(_parameter_gradient(f, at) for f in pair.parameter_slopes)


def _parameter_gradient(slope, at):
    @jit.driver(allocates=True)
    def backward_parameter(theta, x, dy, partial):
        K = partial.shape[0]
        for k in prange(0, K):
            partial[k] = 0
            for r in range(x.shape[0] * k // K, x.shape[0] * (k + 1) // K):
                for c in range(x.shape[1]):
                    partial[k, c] += np.float64(dy[r, c] * slope(x[r, c], *at(theta, c)))

    return backward_parameter
