"""Activations on the GPU: a grid-stride pass where parameters are shared, one row of channels after another
where they are learned.

The kernels of a pair are made at its first use, from the scalar formulas that the CPU runs too.
"""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.activation.theta import column
from nbprop.ops.flat import flat, rows

_CHANNELS = 32  # that a block sums up side by side: a warp reads one cache line of them


def activation_forward(pair, parameters, x, y):
    if x.size:
        _same(pair)[0][gpu.blocks(x.size), gpu.THREADS](parameters, flat(x), flat(y))


def activation_backward(pair, parameters, s, dy, dx):
    if s.size:
        _same(pair)[1][gpu.blocks(s.size), gpu.THREADS](parameters, flat(s), flat(dy), flat(dx))


def learned_forward(pair, theta, x, y):
    if x.size:
        _by_channel(pair)[0][gpu.blocks(x.size), gpu.THREADS](theta, rows(x), rows(y))


def learned_backward_input(pair, theta, s, dy, dx):
    if s.size:
        _by_channel(pair)[1][gpu.blocks(s.size), gpu.THREADS](theta, rows(s), rows(dy), rows(dx))


def learned_backward_parameters(pair, theta, x, dy, partial):
    (chunks, C), width = partial.shape[1:], min(_CHANNELS, gpu.THREADS)
    for i in range(len(theta)):
        sums = _parameter_gradient(pair, i, gpu.THREADS, width)
        sums[(chunks, -(-C // width)), gpu.THREADS](theta, rows(x), rows(dy), partial[i])


def learned_gradient(partial, grad):
    _learned_gradient(gpu.THREADS)[grad.size, gpu.THREADS](partial, grad)


@functools.cache
def _same(pair):
    value, slope = pair.value, pair.slope

    @gpu.kernel
    def forward(parameters, x, y):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            y[i] = value(x[i], *parameters)

    @gpu.kernel
    def backward(parameters, s, dy, dx):
        for i in range(cuda.grid(1), s.size, cuda.gridsize(1)):
            dx[i] = dy[i] * slope(s[i], *parameters)

    return forward, backward


@functools.cache
def _by_channel(pair):
    value, slope, at = pair.value, pair.slope, column(len(pair.parameters))

    @gpu.kernel
    def forward(theta, x, y):
        C = x.shape[1]
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            r, c = i // C, i % C
            y[r, c] = value(x[r, c], *at(theta, c))

    @gpu.kernel
    def backward_input(theta, s, dy, dx):
        C = s.shape[1]
        for i in range(cuda.grid(1), s.size, cuda.gridsize(1)):
            r, c = i // C, i % C
            dx[r, c] = dy[r, c] * slope(s[r, c], *at(theta, c))

    return forward, backward_input


@functools.cache
def _parameter_gradient(pair, i, threads, width):
    """Sum over the rows of chunk blockIdx.x, for `width` channels; the rows go round the block's threads."""
    slope, at = pair.parameter_slopes[i], column(len(pair.parameters))
    total = gpu.reduction(gpu.add, threads, np.float64, width)

    @gpu.kernel
    def backward_parameter(theta, x, dy, partial):
        K = partial.shape[0]
        k, t = cuda.blockIdx.x, cuda.threadIdx.x
        c = cuda.blockIdx.y * width + t % width
        mine = 0.0
        if c < x.shape[1]:
            for r in range(x.shape[0] * k // K + t // width, x.shape[0] * (k + 1) // K, threads // width):
                mine += np.float64(dy[r, c] * slope(x[r, c], *at(theta, c)))
        mine = total(mine)
        if t < width and c < x.shape[1]:
            partial[k, c] = mine

    return backward_parameter


@functools.cache
def _learned_gradient(threads):
    """Make the kernel in which block i adds up what belongs to parameter i: its channel, or all of them."""
    total = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel
    def learned_gradient(partial, grad):
        i, (K, C) = cuda.blockIdx.x, partial.shape
        width = C // grad.size
        mine = 0.0
        for j in range(cuda.threadIdx.x, K * width, threads):
            mine += partial[j // width, i * width + j % width]
        mine = total(mine)
        if cuda.threadIdx.x == 0:
            grad[i] = mine

    return learned_gradient
