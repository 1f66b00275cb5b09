"""Pick rows, convert and scale them in one pass: the kernel that makes a batch."""

from numba import prange

from nbprop import jit

__all__ = ["copy_rows", "scale_rows"]

_SERIAL = 1 << 18  # values: about 20 us of work, below which a parallel region does not pay


def scale_rows(source, order, factor, offset, out):
    """Set out[i, k] = source[order[i], k] * factor[k] + offset[k]."""
    n, values = out.shape
    tasks = jit.threads() if n * values >= _SERIAL else 1
    if tasks == 1:
        _scale(source, order, factor, offset, out, 0, n)
    else:
        _scale_parallel(source, order, factor, offset, out, min(tasks, n))


@jit.kernel
def _scale(source, order, factor, offset, out, start, stop):
    for i in range(start, stop):
        row = order[i]
        for k in range(out.shape[1]):
            out[i, k] = out.dtype.type(source[row, k]) * factor[k] + offset[k]


@jit.driver
def _scale_parallel(source, order, factor, offset, out, tasks):
    n = out.shape[0]
    for t in prange(0, tasks):
        _scale(source, order, factor, offset, out, t * n // tasks, (t + 1) * n // tasks)


@jit.kernel
def copy_rows(source, order, out):
    """Set out[i, k] = source[order[i], k]: the labels of a batch."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = source[order[i], k]
