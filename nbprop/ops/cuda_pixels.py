"""Passes over images on the GPU: neighbouring threads on neighbouring channels, four each where memory allows.

A pass is cut into rows (of all images, counted through) and columns (groups of V channels, along a row): that
takes two short divisions per thread, and none of 64 bits.
"""

import functools

import numpy as np

from nbprop import gpu, jit
from nbprop.gpu import cuda
from nbprop.ops.cuda_quads import put_quad, quad

__all__ = ["grid", "lanes", "pixel", "place", "power_of_two", "row_threads", "split", "vectors"]

_WARP = 32


def lanes(C, *arrays):
    """Return V, how many channels a thread takes: where other libraries begin an array is their choice."""
    return 4 if C % 4 == 0 and all(a.address % 16 == 0 for a in arrays) else 1


def power_of_two(number, most):
    """Return the smallest power of two that is at least `number`, or `most`, which is one."""
    power = 1
    while power < number and power < most:
        power *= 2
    return power


def row_threads(elements):
    """Return how many threads share a row: a power of two, one each or a whole block, but at least a warp."""
    return max(power_of_two(elements, gpu.THREADS), min(_WARP, gpu.THREADS))


def grid(rows, columns):
    """Return grid and block of a pass over rows x columns, for `place`."""
    wide = power_of_two(columns, gpu.THREADS)
    high = gpu.THREADS // wide
    return -(-rows // high) * -(-columns // wide), (wide, high)


@jit.scalar
def split(i, n):
    """Return i // n and i % n of numbers below 2^32."""
    whole = np.uint32(i) // np.uint32(n)
    return np.int64(whole), np.int64(i) - np.int64(whole) * np.int64(n)


@gpu.device
def place(columns):
    """Return row and column of this thread; both may lie outside."""
    wide = np.int64(cuda.blockDim.x)
    band, strip = split(cuda.blockIdx.x, (columns + wide - 1) // wide)
    return band * cuda.blockDim.y + cuda.threadIdx.y, strip * wide + cuda.threadIdx.x


@gpu.device
def pixel(shape, V):
    """Return n, h, w, c of this thread, and whether there is such a pixel."""
    N, C, H, W = shape
    row, column = place(W * C // V)
    n, h = split(row, H)
    w, c = split(column * V, C)
    return n, h, w, c, n < N and w < W


@functools.cache
def vectors(V):
    """Make get(array, at, q) and put(array, at, q): V neighbours of a flat array to or from the local array q."""

    @gpu.device
    def get(array, at, q):
        if V == 4:
            q[0], q[1], q[2], q[3] = quad(array, at)
        else:
            q[0] = array[np.uint64(at)]

    @gpu.device
    def put(array, at, q):
        if V == 4:
            put_quad(array, at, q[0], q[1], q[2], q[3])
        else:
            array[np.uint64(at)] = q[0]

    return get, put
