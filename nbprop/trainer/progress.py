"""What a user sees while a model trains: a bar on a terminal, one line per epoch elsewhere."""

import contextlib
import sys
import time

from nbprop.trainer import compiling

__all__ = ["Progress", "describe"]

_REFRESH = 0.1  # seconds between two looks of the bar


class Progress:
    """Show compilation, then loss, accuracy, images/s and time left; used as a context around a run.

    Parameters
    ----------
    images : int
        Of all epochs together.
    epochs : int
        Number of the last epoch.
    visible : bool
    """

    def __init__(self, images, epochs, visible=True):
        self.images, self.epochs, self.visible = images, epochs, visible
        self.bar = None
        self._next, self._label = 0.0, ""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._compiling = stack.enter_context(compiling.watch(self._compile))
            if self.visible and sys.stderr.isatty():
                from tqdm import tqdm

                looks = {"unit": " images", "unit_scale": True, "leave": False, "dynamic_ncols": True}
                self.bar = stack.enter_context(tqdm(total=self.images, **looks))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def begin(self, epoch):
        """Start the clock of an epoch."""
        self._label = f"epoch {epoch}/{self.epochs}"
        self._compiled = self._compiling.seconds, self._compiling.count
        self._begun = time.perf_counter()
        if self.bar is not None:
            self.bar.set_description(self._label)

    def advance(self, images, totals):
        """Count a step's images; a look at the clock unless the bar is due, which then reads the totals."""
        if self.bar is None:
            return
        self.bar.update(images)
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + _REFRESH
            loss, accuracy = totals.figures()
            text = f"loss {loss:.4f}" if accuracy is None else f"loss {loss:.4f}, accuracy {accuracy:.2%}"
            self.bar.set_postfix_str(text, refresh=False)

    def trained(self, images):
        """Stop the clock, before validation; what compiling took is not counted."""
        seconds = time.perf_counter() - self._begun - (self._compiling.seconds - self._compiled[0])
        self._speed = images / max(seconds, 1e-9)

    def end(self, record):
        """Print an epoch's line."""
        seconds = self._compiling.seconds - self._compiled[0]
        count = self._compiling.count - self._compiled[1]
        line = f"{self._label}: {describe(record)}, {self._speed:,.0f} images/s, {record['seconds']:.2f} s"
        if count:
            line += f" (of which {seconds:.1f} s compiled {count} kernels, kept for the next run)"
        self._line(line)

    def _line(self, text):
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        elif self.visible:
            print(text, file=sys.stderr, flush=True)

    def _compile(self, name):
        """Put the kernel in work on the bar; without a terminal, say once that it takes a moment."""
        if self.bar is not None:
            self.bar.set_description(f"compiling {name}" if name else self._label)
            if name is None:
                self.bar.unpause()  # what was spent here is not the speed of training
        elif name and self._compiling.count == 1:
            self._line("compiling kernels (once; they are kept for the next run)")


def describe(record):
    """Name the figures of an epoch's record that are there."""
    names = {"loss": "loss", "accuracy": "accuracy", "validation_loss": "validation loss",
             "validation_accuracy": "validation accuracy"}
    given = [(key, name) for key, name in names.items() if record.get(key) is not None]
    return ", ".join(f"{name} {record[key]:.2%}" if "accuracy" in key else f"{name} {record[key]:.4f}"
                     for key, name in given)
