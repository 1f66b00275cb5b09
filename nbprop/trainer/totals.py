"""What is summed over the steps of an epoch: on the host, or on the GPU where only a look at it waits."""

import numpy as np

from nbprop import backend, jit, layout
from nbprop.ops import tally

__all__ = ["GpuTotals", "Totals", "count_correct"]


class Totals:
    """Loss and accuracy so far.

    Parameters
    ----------
    counts : bool
        Whether targets are class numbers.
    """

    def __init__(self, counts):
        self.counts, self.loss, self.correct, self.seen = counts, 0.0, 0, 0

    def add(self, loss, y, target):
        """Count a batch: its mean loss, the outputs and the targets."""
        self.loss += loss * len(y)
        self.seen += len(y)
        if self.counts:
            self.correct += count_correct(y, target)

    def figures(self):
        """Return the mean loss and the accuracy, or None where none is counted."""
        return self.loss / self.seen, self.correct / self.seen if self.counts else None


class GpuTotals:
    """The same in a ledger on the GPU (`ops.tally`), which also tells optimisers to hold a diverged step back.

    Parameters
    ----------
    counts : bool
    like : array
        On the GPU.
    diverged : function
        Called with the number of the first step that was not finite and its loss, once that is known here.
    """

    def __init__(self, counts, like, diverged=None):
        self.counts, self.seen, self._diverged = counts, 0, diverged
        self._ledger = layout.zeros((tally.ENTRIES,), np.float64, like)
        self.gate = self._ledger[tally.GATE : tally.GATE + 1]
        self._no_parts = self._ledger[:0]
        self._no_labels = layout.zeros((0,), np.int64, like)
        self._no_outputs = layout.zeros((0, 1), like.dtype, like)

    def add(self, loss, y, target, parts=None):
        """Count a batch: its loss and, in training, the `update.health` of the gradient, all on the GPU."""
        if not layout.on_gpu(loss):
            loss = layout.full((1,), loss, np.float64, self._ledger)
        outputs, labels = (y, target) if self.counts else (self._no_outputs, self._no_labels)
        parts = self._no_parts if parts is None else parts
        backend.twin("tally", self._ledger).count_step(loss, len(y), parts, outputs, labels, self._ledger)
        self.seen += len(y)

    def figures(self):
        """Wait for the GPU; return the mean loss and the accuracy, or None where none is counted."""
        ledger = layout.gpu().to_host(self._ledger)
        if self._diverged is not None and ledger[tally.BAD_STEP]:
            raise self._diverged(int(ledger[tally.BAD_STEP]), float(ledger[tally.BAD_LOSS]))
        return float(ledger[tally.LOSS]) / self.seen, ledger[tally.CORRECT] / self.seen if self.counts else None


@jit.kernel
def count_correct(y, target):
    """Count the rows of `y` (N, classes) whose greatest entry, the first of equals, stands at target[n]."""
    count = 0
    for n in range(y.shape[0]):
        best = 0
        for c in range(1, y.shape[1]):
            if y[n, c] > y[n, best]:
                best = c
        count += best == target[n]
    return count
