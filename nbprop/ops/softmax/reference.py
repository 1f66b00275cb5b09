"""Softmax and its logarithm along one axis, with the Jacobian products written out."""

import math

from nbprop import jit
from nbprop.ops.flat import lines


def softmax_forward(x, y, axis):
    _softmax(lines(x, axis), lines(y, axis))


def softmax_backward(y, dy, dx, axis):
    _softmax_backward(lines(y, axis), lines(dy, axis), lines(dx, axis))


def log_softmax_forward(x, y, axis):
    _log_softmax(lines(x, axis), lines(y, axis))


def log_softmax_backward(y, dy, dx, axis):
    _log_softmax_backward(lines(y, axis), lines(dy, axis), lines(dx, axis))


@jit.reference
def _log_softmax(x, y):
    A, K, B = x.shape
    for a in range(A):
        for b in range(B):
            highest = x[a, :, b].max()
            total = 0.0
            for k in range(K):
                total += math.exp(x[a, k, b] - highest)
            for k in range(K):
                y[a, k, b] = x[a, k, b] - highest - math.log(total)


@jit.reference
def _softmax(x, y):
    _log_softmax(x, y)
    A, K, B = x.shape
    for a in range(A):
        for k in range(K):
            for b in range(B):
                y[a, k, b] = math.exp(y[a, k, b])


@jit.reference
def _softmax_backward(y, dy, dx):
    A, K, B = y.shape
    for a in range(A):
        for b in range(B):
            for k in range(K):
                dx[a, k, b] = 0
                for j in range(K):
                    dx[a, k, b] += dy[a, j, b] * y[a, j, b] * ((j == k) - y[a, k, b])


@jit.reference
def _log_softmax_backward(y, dy, dx):
    A, K, B = y.shape
    for a in range(A):
        for b in range(B):
            for k in range(K):
                dx[a, k, b] = 0
                for j in range(K):
                    dx[a, k, b] += dy[a, j, b] * ((j == k) - math.exp(y[a, k, b]))
