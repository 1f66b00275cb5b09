"""Calls of an op that come again with the same arrays, as at every step of training: what they prepare is kept.

A tiny network's arithmetic takes less time than the Python in front of it: views of arrays as runs of memory, numbers
taken out of shapes, the choice of a twin. So each function of a twin falls in two, what it prepares and what it then
launches, and a layer keeps the launch for as long as nothing that it was prepared from is another object.
"""

import functools
from operator import is_
from threading import get_ident

from nbprop import backend, lent

__all__ = ["Repeated", "settles"]


def settles(prepare):
    """Make a function of a twin of one that returns the launch: it does both at once.

    The launch is repeated for the same objects, whatever has been written into the arrays. It may depend on nothing
    else that changes between two calls, other than by asking for it; on the number of threads only where arrays are
    not small, as then no launch is kept.
    """

    @functools.wraps(prepare)
    def run(*arguments):
        prepare(*arguments)()

    run.settle = prepare
    return run


class Repeated:
    """A function of an op's twin as one layer calls it, on arrays of one shape.

    Parameters
    ----------
    op, name : str
        The folder in `nbprop.ops`, and the function.
    small : bool
        Whether launches are kept, and with them the arrays of the last call, the parameters' among them, until the next
        call of that shape: see `lent.small`.
    first : sequence
        What the function takes before the arguments of each call.
    work : function, optional
        Returns, for the first argument of a call, what the function takes last: the calling thread's scratch memory.
    """

    def __init__(self, op, name, small, first=(), work=None):
        self._op, self._name, self._small, self._first, self._work = op, name, small, first, work
        self._last = (), None, None, None  # the arguments of the last call, its surroundings, and the launch
        self._here, self._function, self._scratch = None, None, ()  # the last twin and thread, and what is theirs

    def run(self, *arguments):
        """Call the twin that computes on arrays like the first argument."""
        before, forced, thread, launch = self._last
        if before and all(map(is_, arguments, before)) and forced is backend.forced() and thread == get_ident():
            launch()
        else:
            self._run(arguments)

    def _run(self, arguments):
        here = backend.name(arguments[0]), get_ident()
        if here != self._here:
            function = getattr(backend.twin(self._op, arguments[0]), self._name)
            work = () if self._work is None else (self._work(arguments[0]),)
            self._here, self._function, self._scratch = here, function, work
        function, everything = self._function, (*self._first, *arguments, *self._scratch)
        if not self._small or not lent.keeps(arguments[0]):
            function(*everything)
            return
        settle = getattr(function, "settle", None)
        launch = settle(*everything) if settle else functools.partial(function, *everything)
        self._last = arguments, backend.forced(), get_ident(), launch
        launch()
