"""A container's launches put off until Python has been through all its layers, and then replayed in one go.

Python between two large kernels finds its caches swept: every stretch of it costs some 30 us beside the 6 of its work
(Emerald Rapids; resnet20 has 190 of them in a step of 75 ms). In one piece it is done in the time of its work.

Nothing else changes: layers check, choose and remember as ever, in the same order. But while launches are put off what
arrays hold is not there yet, so that only passes which leave it to drivers may run: those that are marked. Before all
others, before any driver that is called as such, and before a copy that `layout` makes, what was put off is done.
"""

from nbprop import jit, tape
from nbprop.repeat import surroundings

__all__ = ["begin", "end", "looks_not", "resume", "suspend"]

_OURS = f"{__package__}."


def looks_not(method):
    """Mark a pass of a layer that touches what arrays hold by drivers alone, or calls `tape.flush` before."""
    method.looks_not = method
    return method


def begin(container):
    """Put launches off until `end`, unless they are already; return what `end` wants.

    No container is inside itself: if it began what is put off, an interrupt (Ctrl-C) came in the way of `end`.
    """
    before = tape.pending()
    if before is not None and before.container is not container:
        return False
    tape.put_off(tape.Pending(container, surroundings(), jit.replay))
    return True


def end(begun):
    """Do what was put off, if `begin` began it."""
    if begun:
        try:
            tape.flush()
        finally:
            tape.put_off(None)


def suspend(method):
    """Put nothing off while a layer's pass runs, unless it is marked; return what `resume` wants."""
    if tape.pending() is None or _leaves_it_to_drivers(method):
        return None
    tape.flush()
    return tape.put_off(None)


def _leaves_it_to_drivers(method):
    """Say whether a pass is marked, of a layer of ours: a user's subclass may look in whatever the pass calls.

    Whoever wraps a pass may look, too: functools.wraps copies the mark, but not what it marks.
    """
    function = getattr(method, "__func__", None)
    marked = function is not None and getattr(function, "looks_not", None) is function
    return marked and type(method.__self__).__module__.startswith(_OURS)


def resume(suspended):
    """Put launches off again."""
    if suspended is not None:
        suspended.around = surroundings()  # it may have asked for another number of threads
        tape.put_off(suspended)
