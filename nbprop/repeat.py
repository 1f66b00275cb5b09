"""Calls of an op that come again with the same arrays, as at every step of training: their launches are replayed.

A tape of launches (see tape.py) holds addresses. It is replayed for the very objects that the call it was taken of was
given, and holds no array among them: when one is gone, so is the right to replay.
"""

import weakref
from threading import get_ident

import numpy as np

from nbprop import backend, jit, tape
from nbprop.ops.conv import choose
from nbprop.tape import own

__all__ = ["Repeated", "surroundings"]


class Repeated:
    """A function of an op's twin as one layer calls it.

    Parameters
    ----------
    op, name : str
        The folder in `nbprop.ops`, and the function.
    first : sequence
        What the function takes before the arguments of each call.
    work : function, optional
        Returns, for the first argument of a call, what the function takes last: the calling thread's scratch memory.
    """

    def __init__(self, op, name, first=(), work=None):
        self._op, self._name, self._first, self._work = op, name, first, work
        self._here, self._function, self._scratch = None, None, ()  # the last twin and thread, and what is theirs
        self._last = [], None, None  # the last call: see `_watched`; and its surroundings
        self._known, self._around, self._tape, self._watch = [], None, None, None  # the same of the call on the tape

    def __del__(self):
        tape.flush()  # what is put off may be on this tape

    def run(self, *arguments):
        """Call the twin that computes on arrays like the first argument."""
        pending = own.pending
        around = surroundings() if pending is None else pending.around
        if [*map(id, arguments)] != self._known or around != self._around:
            self._run(arguments)
        elif pending is None:
            jit.replay(*self._tape.span.buffer_info())
        else:
            pending.spans.extend(self._tape.span)

    def _run(self, arguments):
        tape.flush()
        here, around = (backend.name(arguments[0]), get_ident()), surroundings()
        if here != self._here:
            function = getattr(backend.twin(self._op, arguments[0]), self._name)
            work = () if self._work is None else (self._work(arguments[0]),)
            self._here, self._function, self._scratch = here, function, work
        everything = (*self._first, *arguments, *self._scratch)
        if not hasattr(self._function, "launches"):
            self._function(*everything)
            return
        last, watch, around_last = self._last
        if [*map(id, arguments)] != last or around != around_last:
            self._last = *_watched(arguments), around  # arrays that come once are not worth a tape
            self._function(*everything)
            return
        with tape.recorded(arguments) as taken:
            self._function(*everything)
        if not taken.spoilt:
            self._known, self._watch, self._tape, self._around = last, watch, taken, around


def _watched(arguments):
    """Return the arguments' identities, in a list that is emptied when an array is gone, and what keeps watch of that.

    Other arguments are kept, as another object could be given their identity.
    """
    known = [*map(id, arguments)]

    def forget(_):
        tape.flush()  # Python calls this while the array's memory is still there
        known.clear()

    return known, [weakref.ref(a, forget) if isinstance(a, np.ndarray) else a for a in arguments]


def surroundings():
    """Return what decides, beside its arguments, what a function of a twin launches."""
    return backend.forced(), choose.forced(), jit.threads(), get_ident()
