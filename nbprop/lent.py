"""Memory for input gradients: lent to whoever holds the array, and free again when nobody refers to it.

The backward pass of a chain then runs in two or three blocks instead of one for each layer: it takes less memory, and
writes where the cache still holds what was there before.
"""

import math
import sys
import threading

import numpy as np

from nbprop import layout

__all__ = ["Lent", "keeps", "release", "small"]

_SMALL = 1 << 16  # bytes: finding a block takes about as long as writing them; and they add up to little


class _Pool(threading.local):
    """A Python thread's blocks, those in use and those that are free."""

    def __init__(self):
        self.blocks = []
        self.largest = 0  # bytes of the largest array that may be asked for


_own = _Pool()


def small(dtype, *shapes):
    """Say whether arrays of these shapes, allocated now, are on the host and so small that nobody need let them go."""
    largest = max(map(math.prod, shapes)) * np.dtype(dtype).itemsize
    return largest < _SMALL and not layout.goes_to_gpu()


def keeps(x):
    """Say whether an array is one of those, and no view of a large one."""
    return type(x) is np.ndarray and max(x.nbytes, getattr(x.base, "nbytes", 0)) < _SMALL


class Lent:
    """An array of some shape for each pass that fills one, made like those of `layout.empty`.

    A large one on the host lies in memory that no other array in use refers to. A small one, or one on the GPU, is
    the same at every call: the next pass overwrites it.
    """

    def __init__(self, shape, dtype, like=None):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        kept = self.nbytes < _SMALL or layout.goes_to_gpu(like)
        self.kept = layout.empty(shape, dtype, like) if kept else None
        if not kept:
            _own.largest = max(_own.largest, self.nbytes)

    def take(self):
        """Return the array to fill; what it holds is anyone's."""
        if self.kept is not None:
            return self.kept
        return layout.over(_block(self.nbytes), self.shape, self.dtype)


def release():
    """Let go of the calling thread's blocks that are free."""
    _drop_free()
    _own.largest = max(map(len, _own.blocks), default=0)


def _drop_free():
    _own.blocks = [block for block in _own.blocks if _users(block)]


def _block(size):
    """Return the smallest free block of `size` bytes or more.

    Where there is none, the free ones are too small and are let go before another is allocated, large enough for every
    gradient of the layers so far: the second step finds what it needs, and pages that are not written take no memory.
    """
    fitting = [block for block in _own.blocks if block.size >= size and not _users(block)]
    if fitting:
        return min(fitting, key=len)
    _drop_free()
    block = layout.empty((max(size, _own.largest),), np.uint8)
    _own.blocks.append(block)
    return block


def _users(block):
    """Count the arrays that lie in a block: NumPy lets each, whatever it is a view of, keep the memory's owner."""
    return sys.getrefcount(block.base) - 2  # less the block itself, and the argument
