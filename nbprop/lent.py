"""Memory for input gradients: lent to whoever holds the array, and free again when nobody refers to it.

The backward pass of a chain then runs in two or three blocks instead of one for each layer: it takes less memory, and
writes where the cache still holds what was there before.
"""

import math
import sys
import threading
import weakref

import numpy as np

from nbprop import layout

__all__ = ["Lent", "release"]

_SMALL = 1 << 16  # bytes: finding a block takes about as long as writing them; and they add up to little
_VIEWS = 16  # arrays that a block is kept as
(_ALONE,) = map(sys.getrefcount, [object()])  # how often Python counts what only a list, or a dict, refers to


class _Block:
    """Some memory, and the arrays that it has been lent as: who asks alike gets the same object, which launches know.

    Of each array it knows how many references are its own; and of the memory, which NumPy lets every array that lies in
    it keep, whatever that is a view of.
    """

    def __init__(self, size):
        self.memory, self.thread = layout.empty((size,), np.uint8), threading.get_ident()
        self._views = {}

    def view(self, shape, dtype):
        """Return the memory as an array."""
        found = self._views.get((shape, dtype))
        if found is None or found.shape != shape or not found.flags.writeable:  # whoever had it may have set them
            if len(self._views) == _VIEWS:
                self._views.clear()
            found = self._views[shape, dtype] = layout.over(self.memory, shape, dtype)
        return found

    def users(self):
        """Count the references to the memory and its arrays that are not the block's own."""
        views = self._views.values()
        of_views = sum(map(sys.getrefcount, views)) - len(views) * _ALONE
        return sys.getrefcount(self.memory.base) - 2 - len(views) + of_views  # less the block's, and the argument


class _Pool(threading.local):
    """A Python thread's blocks, those in use and those that are free."""

    def __init__(self):
        self.blocks = []
        self.largest = 0  # bytes of the largest array that may be asked for


_own = _Pool()


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
        self._last = lambda: None  # the block that was taken last, if it is still there
        if not kept:
            _own.largest = max(_own.largest, self.nbytes)

    def take(self):
        """Return the array to fill; what it holds is anyone's."""
        if self.kept is not None:
            return self.kept
        block = self._last()
        if block is None or block.users() or block.thread != threading.get_ident():
            block = _block(self.nbytes)
            self._last = weakref.ref(block)
        return block.view(self.shape, self.dtype)


def release():
    """Let go of the calling thread's blocks that are free."""
    _drop_free()
    _own.largest = max((block.memory.size for block in _own.blocks), default=0)


def _drop_free():
    _own.blocks = [block for block in _own.blocks if block.users()]


def _block(size):
    """Return the smallest free block of `size` bytes or more.

    Where there is none, the free ones are too small and are let go before another is allocated, large enough for every
    gradient of the layers so far: the second step finds what it needs, and pages that are not written take no memory.
    """
    fitting = [block for block in _own.blocks if block.memory.size >= size and not block.users()]
    if fitting:
        return min(fitting, key=lambda block: block.memory.size)
    _drop_free()
    block = _Block(max(size, _own.largest))
    _own.blocks.append(block)
    return block
