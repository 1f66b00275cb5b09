"""Pick rows, convert and scale them in one pass: the kernel that makes a batch."""

from nbprop import jit
from nbprop.ops.flat import share

__all__ = ["copy_rows", "scale_rows"]

_SERIAL = 1 << 18  # values: about 20 us of work, below which a parallel region does not pay


def scale_rows(source, order, factor, offset, out):
    """Set out[i, k] = source[order[i], k] * factor[k] + offset[k]."""
    _scale(source, order, factor, offset, out, 1 if out.size < _SERIAL else jit.threads())


@jit.driver
def _scale(source, order, factor, offset, out, task, tasks):
    begin, end = share(len(out), task, tasks)
    for i in range(begin, end):
        row = order[i]
        for k in range(out.shape[1]):
            out[i, k] = out.dtype.type(source[row, k]) * factor[k] + offset[k]


@jit.kernel
def copy_rows(source, order, out):
    """Set out[i, k] = source[order[i], k]: the labels of a batch."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = source[order[i], k]
