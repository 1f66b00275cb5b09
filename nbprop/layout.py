"""Shape (N, C, H, W), memory N, H, W, C: the one place that converts between the two.

Every public array has the shape of ``torch.nn``. Its strides say channels-last, so that the array a kernel
sees, ``nhwc(x)``, is C-contiguous and one vector register holds neighbouring channels of one pixel.
"""

import contextlib
import contextvars
import ctypes
import importlib
import math

import numpy as np

from nbprop import tape

__all__ = [
    "beside",
    "channels_last",
    "contiguous",
    "empty",
    "empty_like",
    "empty_weights",
    "from_khwio",
    "full",
    "goes_to_gpu",
    "gpu",
    "khwio",
    "khwio_last",
    "look",
    "mover",
    "multiply",
    "nchw",
    "nhwc",
    "on_gpu",
    "over",
    "zeros",
]


_LINE = 64  # bytes of a cache line
_neighbour = contextvars.ContextVar("nbprop_neighbour", default=None)


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


def look(x):
    """Return all that decides how kernels read a NumPy array, for comparison with another's; None for other things.

    Who has checked an array need not check one that looks the same: the comparison takes a quarter of the time.
    """
    return (x.shape, x.strides, x.dtype, x.flags.num) if type(x) is np.ndarray else None


@contextlib.contextmanager
def beside(x):
    """Inside, arrays are allocated where `x` is, unless their call says beside what."""
    token = _neighbour.set(x)
    try:
        yield
    finally:
        _neighbour.reset(token)


def on_gpu(x):
    """Say whether `x` is an array in GPU memory."""
    return not isinstance(x, np.ndarray) and hasattr(x, "__cuda_array_interface__")


def goes_to_gpu(like=None):
    """Say whether `empty` would allocate in GPU memory."""
    return on_gpu(_neighbour.get() if like is None else like)


def gpu():
    """Import and return the module that deals with CUDA; it says what is missing."""
    return importlib.import_module("nbprop.gpu")


def mover(device):
    """Return the function that brings an array to "cuda" or "cpu": a copy, or what is there already as it is.

    Raises
    ------
    ValueError
        If `device` is neither.
    ImportError, RuntimeError
        Saying what is missing to use the GPU.
    """
    if device == "cpu":
        return lambda a: gpu().to_host(a) if on_gpu(a) else a
    if device != "cuda":
        raise ValueError(f'device is {device!r}; expected "cuda" or "cpu"')
    gpu().memory.ready()
    return lambda a: a if on_gpu(a) else gpu().to_device(a)


def empty(shape, dtype, like=None):
    """Allocate an array of `shape`, channels-last if it has four axes, where the array `like` is.

    On the host it starts on a cache line: NumPy starts large arrays 16 bytes into one, and every vector register
    would be read from two lines.
    """
    if len(shape) == 4:
        n, c, h, w = shape
        return nchw(_aligned((n, h, w, c), np.dtype(dtype), like))
    return _aligned(shape, np.dtype(dtype), like)


def over(memory, shape, dtype):
    """View the first of some bytes as an array of `shape`, with the memory order that `empty` gives it."""
    a = memory[: math.prod(shape) * dtype.itemsize].view(dtype)
    if len(shape) == 4:
        n, c, h, w = shape
        return nchw(a.reshape(n, h, w, c))
    return a.reshape(shape)


def empty_weights(shape, dtype, like=None):
    """Allocate weights of `shape` (O, C, KH, KW) with memory KH, KW, C, O."""
    O, C, KH, KW = shape
    return from_khwio(_aligned((KH, KW, C, O), np.dtype(dtype), like))


def zeros(shape, dtype, like=None):
    """Allocate like `empty`, and set to zero."""
    return full(shape, 0, dtype, like)


def full(shape, value, dtype, like=None):
    """Allocate like `empty`, and set to `value`."""
    a = empty(shape, dtype, like)
    a[...] = value
    return a


def _copy(a):
    tape.flush()  # it may not hold yet what is put off
    copied = _aligned(a.shape, a.dtype, a)
    copied[...] = a
    return copied


def _aligned(shape, dtype, like):
    if goes_to_gpu(like):
        return gpu().empty(shape, dtype)
    memory = np.empty(math.prod(shape) * dtype.itemsize + _LINE, np.uint8)
    # NumPy's own ways to say where memory lies run through Python: 20 us after a large product, 9 this way (Zen 3).
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _LINE
    return np.ndarray(shape, dtype, memory, start)


def empty_like(x):
    """Allocate an array of `x`'s shape and dtype beside it, channels-last if it has four axes."""
    return empty(x.shape, x.dtype, x)


def multiply(a, by):
    """Multiply `a` in place by a number or an array."""
    if on_gpu(a):
        if on_gpu(by) or np.ndim(by) or by != 1:
            gpu().multiply(a, by)
    elif np.ndim(by) or by != 1:
        np.multiply(a, by, out=a)
