"""Scratch memory that the products of one Python thread share: whoever computes next writes over it.

A call is then no dearer than its arithmetic (fresh memory costs a page fault for every 4 KiB, more than the product
itself where that is small), a model's scratch memory is about its largest layer's, and it stays in the cache.
"""

import functools
import threading

from nbprop import layout

__all__ = ["borrow", "kept"]

_LINE = 64  # bytes: each array starts on a cache line
_KEPT = 512  # answers that a thread keeps


class _Own(threading.local):
    """What each thread has: its memory, and answers that may refer to it."""

    def __init__(self):
        self.memory, self.kept = None, {}


_own = _Own()


def borrow(sizes, dtype):
    """Return one flat array of `dtype` for each of `sizes`; their contents last until the next call.

    What was lent before stays valid memory, so that a geometry's arrays may be kept: they overlap with others'.
    """
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size * dtype.itemsize // _LINE) * _LINE
    memory = _own.memory
    if memory is None or memory.size < end:
        # Twice as much as asked for: all that a growing need leaves behind is then no more than it takes in the end.
        with layout.beside(None):  # on the host, whatever the caller allocates beside: the thread keeps it
            memory = _own.memory = layout.empty((2 * end,), "u1")
        _own.kept.clear()
    return [memory[s : s + size * dtype.itemsize].view(dtype) for s, size in zip(starts, sizes)]


def kept(make):
    """Keep what `make` returns, for each Python thread its own, until the thread's memory is another."""

    @functools.wraps(make)
    def find(*arguments):
        answers, key = _own.kept, (make, arguments)
        found = answers.get(key)
        if found is None:
            if len(answers) >= _KEPT:
                answers.clear()
            found = answers[key] = make(*arguments)
        return found

    return find
