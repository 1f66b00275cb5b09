"""What the machine can do at most, measured in the same run: multiply-adds and copying."""

import functools

import numpy as np

from nbprop import jit
from nbprop.bench import clock
from nbprop.ops import dense, simd
from nbprop.ops.flat import share
from nbprop.ops.micro_kernel import multiply, product

__all__ = ["copying", "peak_gflops"]

_K = 256  # depth of one product: its operands (MR x K and K x NV x L) stay in the first cache
_CALLS = 2000


@functools.cache
def peak_gflops(threads):
    """Return the GFLOP/s of the bare micro-kernel, on operands in the first cache, on all threads at once."""
    vectors = 2
    width = vectors * simd.lanes(np.dtype(np.float32))
    mr, nv = dense.tile(width, np.float32)
    micro = product(mr, nv, np.dtype(np.float32))
    rng = np.random.default_rng(0)
    a = rng.standard_normal((threads, mr * _K), np.float32)
    b = rng.standard_normal((threads, _K * width), np.float32)
    c = np.zeros((threads, mr * width), np.float32)
    a_rows, c_rows = np.arange(mr) * _K, np.arange(mr) * width
    floor = np.float32(-np.inf)
    seconds = clock.best(lambda: _repeat_product(micro, a, a_rows, b, c, c_rows, width, floor, _CALLS, threads))
    return 2 * threads * _CALLS * mr * width * _K / seconds / 1e9


def copying(nbytes, threads):
    """Return a function that copies, `nbytes` read and written in all: in parallel, or serially if that is faster."""
    source = np.random.default_rng(0).standard_normal(max(nbytes // 8, threads), np.float32)
    target = np.empty_like(source)
    copies = (lambda: _copy(source, target, 1), lambda: _copy(source, target, threads))
    return copies[np.argmin(clock.race(copies, least=clock.SECONDS / 5))]


@jit.driver
def _repeat_product(micro, a, a_rows, b, c, c_rows, width, floor, calls, task, tasks):
    """Repeat one product, each task its own."""
    a, b, c = a[task], b[task], c[task]
    depth = a.size // a_rows.size
    for _ in range(calls):
        multiply(micro, 0, 1, a, 0, a_rows, 1, 1, depth, 0, 0, 1, b, 0, 0, 0, width,
                 c, 0, 1, c, 0, c_rows, width, floor, a, 0, 0)


@jit.driver
def _copy(source, target, task, tasks):
    begin, end = share(len(target), task, tasks)
    source, target = source[begin:end], target[begin:end]
    for i in range(len(target)):
        target[i] = source[i]
