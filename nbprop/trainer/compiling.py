"""Watch Numba compile: which kernel is in work, how many there were, and how long they took."""

import contextlib
import time

from numba.core import event

__all__ = ["Compiling", "watch"]


class Compiling(event.Listener):
    """Counts compilations and calls `show(name)` when one begins, `show(None)` when none is left.

    Kernels are compiled inside those that call them: `seconds` counts the outermost alone.
    """

    def __init__(self, show):
        self.count, self.seconds = 0, 0.0
        self._show, self._open = show, []

    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        module = function.__module__.removeprefix("nbprop.").removeprefix("ops.")
        if not self._open:
            self._since = time.perf_counter()
        self._open.append(f"{module}.{function.__name__}")
        self.count += 1
        self._show(self._open[-1])

    def on_end(self, event):
        self._open.pop()
        if not self._open:
            self.seconds += time.perf_counter() - self._since
        self._show(self._open[-1] if self._open else None)


@contextlib.contextmanager
def watch(show):
    """Listen while the enclosed code runs; gives the Compiling."""
    listener = Compiling(show)
    with event.install_listener("numba:compile", listener):
        yield listener
