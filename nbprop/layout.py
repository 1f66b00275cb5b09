"""Shape (N, C, H, W), memory N, H, W, C: the one place that converts between the two.

Every public array has the shape of ``torch.nn``. Its strides say channels-last, so that the array a kernel
sees, ``nhwc(x)``, is C-contiguous and one vector register holds neighbouring channels of one pixel.
"""

import math

import numpy as np

__all__ = [
    "channels_last",
    "contiguous",
    "empty",
    "empty_like",
    "empty_weights",
    "from_khwio",
    "khwio",
    "khwio_last",
    "nchw",
    "nhwc",
    "zeros",
]


_LINE = 64  # bytes of a cache line


def nhwc(x):
    """View (N, C, H, W) as (N, H, W, C)."""
    return x.transpose(0, 2, 3, 1)


def nchw(a):
    """View (N, H, W, C) as (N, C, H, W)."""
    return a.transpose(0, 3, 1, 2)


def khwio(w):
    """View weights (O, C, KH, KW) as (KH, KW, C, O), their memory order."""
    return w.transpose(2, 3, 1, 0)


def from_khwio(a):
    """View (KH, KW, C, O) as weights (O, C, KH, KW)."""
    return a.transpose(3, 2, 0, 1)


def contiguous(a):
    """Return `a` itself where kernels can read it in place, else a copy.

    Read-only and unaligned arrays are copied too: Numba would compile every kernel once more for each.
    """
    flags = a.flags
    return a if flags.c_contiguous and flags.behaved else _copy(a)


def channels_last(x):
    """Return `x` (N, C, H, W) itself if its memory is channels-last, else a copy that is.

    Arrays of any other rank are made C-contiguous.
    """
    if x.ndim != 4:
        return contiguous(x)
    a = x.transpose(0, 2, 3, 1)
    flags = a.flags
    return x if flags.c_contiguous and flags.behaved else _copy(a).transpose(0, 3, 1, 2)


def khwio_last(w):
    """Return weights (O, C, KH, KW) with memory KH, KW, C, O, copying where they are in another order."""
    return from_khwio(contiguous(khwio(w)))


def empty(shape, dtype):
    """Allocate an array of `shape`, channels-last if it has four axes, from the start of a cache line on.

    NumPy starts large arrays 16 bytes into a line: every vector register would then be read from two lines.
    """
    if len(shape) == 4:
        n, c, h, w = shape
        return nchw(_aligned((n, h, w, c), np.dtype(dtype)))
    return _aligned(shape, np.dtype(dtype))


def empty_weights(shape, dtype):
    """Allocate weights of `shape` (O, C, KH, KW) with memory KH, KW, C, O."""
    O, C, KH, KW = shape
    return from_khwio(_aligned((KH, KW, C, O), np.dtype(dtype)))


def zeros(shape, dtype):
    """Allocate like `empty`, and set to zero."""
    a = empty(shape, dtype)
    a[...] = 0
    return a


def _copy(a):
    copied = _aligned(a.shape, a.dtype)
    copied[...] = a
    return copied


def _aligned(shape, dtype):
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def empty_like(x):
    """Allocate an array of `x`'s shape and dtype, channels-last if it has four axes."""
    return empty(x.shape, x.dtype)
