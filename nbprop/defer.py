"""A container's launches, or a training step's, put off until Python has been through it, and then replayed in one go.

Python between two large kernels finds its caches swept: every stretch of it costs some 30 us beside the 6 of its work
(Emerald Rapids; resnet20 has 190 of them in a step of 75 ms). In one piece it is done in the time of its work.

Nothing else changes: layers check, choose and remember as ever, in the same order. But while launches are put off what
arrays hold is not there yet, so that only passes which leave it to drivers may run: those that are marked. Before all
others, before any driver that is called as such, and before a copy that `layout` makes, what was put off is done.
A loss that is put off cannot say its value: it returns the array that will hold it.
"""

import functools
import sys

from nbprop import jit, tape
from nbprop.repeat import surroundings
from nbprop.tape import own

__all__ = ["Together", "looks", "looks_not", "puts_off", "resume", "run", "suspend"]

_OURS = f"{__package__}."


def looks_not(method):
    """Mark a pass of a layer that touches what arrays hold by drivers alone, or calls `tape.flush` before."""
    method.looks_not = method
    return method


class Together:
    """Inside this `with` launches are put off, unless they are already: what began does them all at its end.

    It is entered with whether it began.
    """

    __slots__ = ("_begun",)

    def __enter__(self):
        self._begun = own.pending is None or not _called_by(own.pending.frame)
        if self._begun:
            tape.put_off(tape.Pending(sys._getframe(1), surroundings(), jit.replay))
        return self._begun

    def __exit__(self, *raised):
        if self._begun:
            try:
                tape.flush()
            finally:
                tape.put_off(None)


def _called_by(frame):
    """Say whether we are inside the `with` that began; if not, an interrupt (Ctrl-C) came in the way of its end."""
    caller = sys._getframe(2)
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


def puts_off():
    """Say whether launches are put off now."""
    return own.pending is not None


def looks(method):
    """Say whether launches are put off that have to be done before this pass of a layer."""
    if own.pending is None:
        return False
    function, layer = getattr(method, "__func__", None), getattr(method, "__self__", None)
    return not _leaves_it_to_drivers(function, type(layer))


@functools.lru_cache(maxsize=1024)
def _leaves_it_to_drivers(function, kind):
    """Say whether a pass is marked, of a layer of ours: a user's subclass may look in whatever the pass calls.

    Whoever wraps a pass may look, too: functools.wraps copies the mark, but not what it marks.
    """
    return getattr(function, "looks_not", ()) is function and kind.__module__.startswith(_OURS)


def run(method, *xs, **named):
    """Run a pass of a layer, with nothing put off if it is not marked."""
    if not looks(method):
        return method(*xs, **named)
    suspended = suspend()
    try:
        return method(*xs, **named)
    finally:
        resume(suspended)


def suspend():
    """Do what was put off, and put nothing off until `resume`; return what that wants."""
    tape.flush()
    return tape.put_off(None)


def resume(suspended):
    """Put launches off again."""
    suspended.around = surroundings()  # the pass may have asked for another number of threads
    tape.put_off(suspended)
