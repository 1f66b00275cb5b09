"""Batches in buffers that are allocated once and filled again for every step."""

import numpy as np

from nbprop import layout, shapes
from nbprop.data.dataset import in_rows
from nbprop.data.gather import copy_rows, scale_rows

__all__ = ["Batches"]


class Batches:
    """Run over a dataset in batches of (x, target), the last one short where the size does not divide.

    Parameters
    ----------
    dataset : Dataset
    batch_size : int
    dtype : float32 or float64
        Of x (and of targets that are not class numbers).

    Notes
    -----
    x and target are the same buffers at every step: copy what you want to keep.
    """

    def __init__(self, dataset, batch_size, dtype=np.float32):
        self.dataset = dataset
        self.batch_size = min(shapes.integer("batch_size", batch_size, 1), max(len(dataset), 1))
        self.order = np.arange(len(dataset))
        self._source = dataset.rows()
        self._affine = dataset.affine(dtype)
        self.x = layout.empty((self.batch_size, *dataset.images.shape[1:]), dtype)
        self._rows = in_rows(self.x)
        self.target = self._labels = None
        if dataset.labels is not None:
            labels = dataset.labels
            self._labels = labels.reshape(len(labels), int(np.prod(labels.shape[1:])))
            kind = np.int64 if labels.dtype == np.int64 else dtype
            self.target = np.empty((self.batch_size, *labels.shape[1:]), kind)
            self._targets = self.target.reshape(self.batch_size, self._labels.shape[1])

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def shuffled(self, seed, epoch):
        """Yield (x, target) in an order that `seed` and `epoch` alone decide."""
        self.order[:] = np.arange(len(self.dataset))
        np.random.default_rng((seed, epoch)).shuffle(self.order)
        return self._run()

    def in_order(self):
        """Yield (x, target) from the first image to the last."""
        self.order[:] = np.arange(len(self.dataset))
        return self._run()

    def _run(self):
        size, total = self.batch_size, len(self.dataset)
        x, rows, target = self.x, self._rows, self.target
        targets = None if target is None else self._targets
        for start in range(0, total, size):
            if start + size > total:
                left = total - start
                x, rows = x[:left], rows[:left]
                if target is not None:
                    target, targets = target[:left], targets[:left]
            order = self.order[start : start + size]
            scale_rows(self._source, order, *self._affine, rows)
            if target is not None:
                copy_rows(self._labels, order, targets)
            yield x, target
