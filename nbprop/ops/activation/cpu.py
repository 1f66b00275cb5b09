"""Activations as passes over memory: flat where parameters are shared, channel lanes where they are learned.

The kernels of a pair are made at its first use. Tasks split flat memory evenly at cache lines; the sums
in learned parameters' gradients go over fixed parts of the rows, in float64.
"""

import functools

import numpy as np

from nbprop import jit
from nbprop.ops.activation.theta import column
from nbprop.ops.flat import flat, rows, share, stretch, tasks
from nbprop.tape import launches


@launches
def activation_forward(pair, parameters, x, y):
    forward, _ = _same(pair)
    forward(parameters, flat(x), flat(y), tasks(x.size))


@launches
def activation_backward(pair, parameters, s, dy, dx):
    _, backward = _same(pair)
    backward(parameters, flat(s), flat(dy), flat(dx), tasks(s.size))


def learned_forward(pair, theta, x, y):
    _by_channel(pair)[0](theta, rows(x), rows(y), tasks(x.size))


def learned_backward_input(pair, theta, s, dy, dx):
    _by_channel(pair)[1](theta, rows(s), rows(dy), rows(dx), tasks(s.size))


def learned_backward_parameters(pair, theta, x, dy, partial):
    for i in range(len(theta)):
        _by_channel(pair)[2 + i](theta, rows(x), rows(dy), partial[i], tasks(x.size))


def learned_gradient(partial, grad):
    sums = partial.sum(axis=0)
    grad[...] = sums if grad.size > 1 else sums.sum()


@functools.cache
def _same(pair):
    value, slope = pair.value, pair.slope

    @jit.driver(allocates=True)
    def forward(parameters, x, y, task, tasks):
        begin, end = stretch(x.size, task, tasks)
        x, y = x[begin:end], y[begin:end]
        for i in range(x.size):
            y[i] = value(x[i], *parameters)

    @jit.driver(allocates=True)
    def backward(parameters, s, dy, dx, task, tasks):
        begin, end = stretch(s.size, task, tasks)
        s, dy, dx = s[begin:end], dy[begin:end], dx[begin:end]
        for i in range(s.size):
            dx[i] = dy[i] * slope(s[i], *parameters)

    return forward, backward


@functools.cache
def _by_channel(pair):
    value, slope, at = pair.value, pair.slope, column(len(pair.parameters))

    @jit.driver(allocates=True)
    def forward(theta, x, y, task, tasks):
        begin, end = share(len(x), task, tasks)
        for r in range(begin, end):
            for c in range(x.shape[1]):
                y[r, c] = value(x[r, c], *at(theta, c))

    @jit.driver(allocates=True)
    def backward_input(theta, s, dy, dx, task, tasks):
        begin, end = share(len(s), task, tasks)
        for r in range(begin, end):
            for c in range(s.shape[1]):
                dx[r, c] = dy[r, c] * slope(s[r, c], *at(theta, c))

    return forward, backward_input, *(_parameter_gradient(f, at) for f in pair.parameter_slopes)


def _parameter_gradient(slope, at):
    @jit.driver(allocates=True)
    def backward_parameter(theta, x, dy, partial, task, tasks):
        K = len(partial)
        for k in range(*share(K, task, tasks)):
            partial[k] = 0
            for r in range(*share(x.shape[0], k, K)):
                for c in range(x.shape[1]):
                    partial[k, c] += np.float64(dy[r, c] * slope(x[r, c], *at(theta, c)))

    return backward_parameter
