"""Launches of drivers noted down, to be launched again without the Python in front of them.

A layer's pass does the same at every step of training: it views arrays as runs of memory, takes numbers out of shapes,
and hands both to drivers, whose launchers look at each argument's type again. Behind kernels that filled the caches all
that comes from memory: 3 to 4 times as long as alone (Emerald Rapids: 8 ms of resnet20's 74, 0.4 of LeNet's 2.2).
"""

import contextlib
import threading
from array import array

import numpy as np

__all__ = ["LONGEST", "Pending", "Tape", "flush", "launches", "own", "put_off", "recorded", "spoil"]

LONGEST = 1 << 13  # bytes of an entry at most


class _Own(threading.local):
    """What a thread has: the tape that is on, a page for an entry, and what is put off, if anything may be."""

    def __init__(self):
        self.tape, self.page, self.pending = None, None, None


own = _Own()


class Pending:
    """Spans of tapes that the frame of a `with` puts off, what replays them, and their surroundings, which stay alike.

    It holds no array: one that is to go, or the tape, has the spans replayed first (`repeat.Repeated`). That is so for
    what this thread lets go of; what comes from elsewhere, the container holds.
    """

    __slots__ = ("around", "busy", "frame", "replay", "spans")

    def __init__(self, frame, around, replay):
        self.frame, self.around, self.replay = frame, around, replay
        self.spans, self.busy = array("q"), False


def put_off(pending):
    """Note it there from now on; return where it was before."""
    before, own.pending = own.pending, pending
    return before


def flush():
    """Do what this thread has put off (see defer.py)."""
    pending = own.pending
    if pending is None or not pending.spans or pending.busy:  # busy: Python has let go of an array in the midst of it
        return
    pending.busy = True
    try:
        pending.replay(*pending.spans.buffer_info())
    finally:
        del pending.spans[:]
        pending.busy = False


def spoil():
    """Say that what is being done would not be the same again: it is noted in vain."""
    if own.tape is not None:
        own.tape.spoilt = True


def launches(function):
    """Mark a function of a twin that does nothing but launch drivers, the same for the same objects.

    The launches are replayed for the same objects, whatever has been written into the arrays. Beside those they may
    depend on `repeat.surroundings`, and on scratch memory of the calling thread that is the last argument.
    """
    function.launches = True
    return function


@contextlib.contextmanager
def recorded(arguments):
    """Note all launches inside on a new Tape: those of a function with these arguments, which it does not hold."""
    own.tape = tape = Tape(arguments)
    try:
        yield tape
    finally:
        own.tape = None
    tape.end()


class Tape:
    """Entries of launches (see distribute.py), and whatever they refer to beside memory of the given arguments.

    The entries hold addresses: whoever replays them makes sure that the arguments are there.
    """

    def __init__(self, arguments):
        self.spoilt, self.span = False, None
        self._theirs = {id(_owner(a)) for a in arguments if isinstance(a, np.ndarray)}
        self._held, self._entries, self._memory = [], [], None

    def launch(self, launch, arguments):
        """Launch, and note it."""
        if own.page is None:
            own.page = np.empty(LONGEST, np.uint8)
        page = own.page
        launch(page.ctypes.data, *arguments)
        self._entries.append(page[: page[:8].view(np.int64)[0]].copy())
        self._held.append(launch)
        self._hold(arguments)

    def _hold(self, arguments):
        for a in arguments:
            if isinstance(a, tuple):
                self._hold(a)
            elif isinstance(a, np.ndarray) and id(_owner(a)) not in self._theirs:
                self._held.append(a)

    def end(self):
        """Lay the entries one after another: from here on `span` says where they begin and end."""
        self._memory = np.concatenate([*self._entries, np.empty(0, np.uint8)])
        self._entries = []
        start = self._memory.ctypes.data
        self.span = array("q", (start, start + self._memory.size))


def _owner(a):
    """Return the array whose memory this is, or the last before something else owns it."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a
