"""What the machine can do at most, measured in the same run: multiply-adds and copying."""

import functools

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.bench import clock
from nbprop.ops import dense, simd

__all__ = ["copy_seconds", "peak_gflops"]

_K = 256  # depth of one product: its operands (MR x K and K x NV x L) stay in the first cache
_CALLS = 2000


@functools.cache
def peak_gflops(threads):
    """Return the GFLOP/s of the bare micro-kernel, on operands in the first cache, on all threads at once."""
    vectors = 2
    width = vectors * simd.lanes(np.dtype(np.float32))
    mr, nv = dense.tile(width, np.float32)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((threads, mr * _K), np.float32)
    b = rng.standard_normal((threads, _K * width), np.float32)
    c = np.zeros((threads, mr * width), np.float32)
    a_rows, c_rows = np.arange(mr) * _K, np.arange(mr) * width
    products = _products(mr, nv)
    seconds = clock.best(lambda: products(a, a_rows, b, c, c_rows, width, np.float32(-np.inf), _CALLS))
    return 2 * threads * _CALLS * mr * width * _K / seconds / 1e9


@functools.cache
def copy_seconds(nbytes, threads):
    """Return the time of the faster of a serial and a parallel copy that reads and writes `nbytes` in all."""
    source = np.random.default_rng(0).standard_normal(max(nbytes // 8, threads), np.float32)
    target = np.empty_like(source)
    copies = (lambda: _copy_part(source, target), lambda: _copy(source, target, threads))
    return min(map(clock.best, copies))


@functools.cache
def _products(mr, nv):
    """Make a driver in which each thread repeats one product of its own."""
    micro_kernel = simd.product(mr, nv, False)

    @jit.kernel
    def repeat_product(a, a_rows, b, c, c_rows, width, floor, calls):
        depth = a.size // a_rows.size
        for _ in range(calls):
            micro_kernel(0, 1, a, 0, a_rows, 1, 1, depth, 0, 0, 1, b, 0, 0, 0, width,
                         c, 0, 1, c, 0, c_rows, width, floor)

    @jit.driver
    def repeat_products(a, a_rows, b, c, c_rows, width, floor, calls):
        for task in prange(0, len(a)):
            repeat_product(a[task], a_rows, b[task], c[task], c_rows, width, floor, calls)

    return repeat_products


@jit.kernel
def _copy_part(source, target):
    for i in range(len(target)):
        target[i] = source[i]


@jit.driver
def _copy(source, target, tasks):
    for task in prange(0, tasks):
        start, stop = task * len(source) // tasks, (task + 1) * len(source) // tasks
        _copy_part(source[start:stop], target[start:stop])
