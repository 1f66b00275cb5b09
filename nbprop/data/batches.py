"""Batches in buffers that are allocated once and filled again for every step."""

import numpy as np

from nbprop import layout, shapes
from nbprop.data.dataset import in_rows
from nbprop.data.gather import copy_rows, scale_rows

__all__ = ["Batches", "GpuBatches"]


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
        labels = dataset.labels
        self._labels = None if labels is None else labels.reshape(len(labels), int(np.prod(labels.shape[1:])))
        self._allocate(np.dtype(dtype))

    def _allocate(self, dtype):
        self._buffers = _Buffers(self.dataset, self.batch_size, dtype, layout.empty)
        self.x, self.target = self._buffers.x, self._buffers.target

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
        for order in self._orders():
            yield self._fill(self._buffers, order)

    def _orders(self):
        """Cut the order of the images into batches."""
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size]

    def _fill(self, buffers, order):
        """Gather the images `order` and return (x, target)."""
        x, rows, target, targets = buffers.first(len(order))
        scale_rows(self._source, order, *self._affine, rows)
        if target is not None:
            copy_rows(self._labels, order, targets)
        return x, target


class _Buffers:
    """Room for a batch, as arrays of the model and as rows of memory."""

    def __init__(self, dataset, batch_size, dtype, empty):
        self.x = empty((batch_size, *dataset.images.shape[1:]), dtype)
        self._rows, self.target, self._targets = in_rows(self.x), None, None
        if dataset.labels is not None:
            kind = np.dtype(np.int64) if dataset.labels.dtype == np.int64 else dtype
            self.target = empty((batch_size, *dataset.labels.shape[1:]), kind)
            self._targets = self.target.reshape(batch_size, int(np.prod(self.target.shape[1:])))

    def first(self, n):
        """Return (x, its rows, target, its rows) of the first n images."""
        if n == len(self.x):
            return self.x, self._rows, self.target, self._targets
        short = [None if a is None else a[:n] for a in (self._rows, self.target, self._targets)]
        return self.x[:n], *short


class GpuBatches(Batches):
    """Batches on the GPU: gathered and copied for the next step while the GPU is at work on this one.

    There are two of everything: one batch is read by kernels, the other is on its way.

    Parameters
    ----------
    dataset : Dataset
    batch_size : int
    dtype : float32 or float64
    """

    def _allocate(self, dtype):
        from nbprop.upload import Upload

        self._pairs = []
        for _ in range(2):
            here = _Buffers(self.dataset, self.batch_size, dtype, _pinned)
            self._pairs.append((here, Upload(*(a for a in (here.x, here.target) if a is not None))))
        self.x, self.target = (*self._pairs[0][1].there, None)[:2]

    def _run(self):
        for i, order in enumerate(self._orders()):
            here, upload = self._pairs[i % 2]
            upload.wait()
            self._fill(here, order)
            upload.start()
            x, target = (*upload.there, None)[:2]
            if len(order) < self.batch_size:
                x, target = x[: len(order)], None if target is None else target[: len(order)]
            yield x, target
            upload.used()


def _pinned(shape, dtype):
    """Allocate page-locked memory, channels-last if it has four axes."""
    from nbprop.upload import pinned

    if len(shape) != 4:
        return pinned(shape, dtype)
    n, c, h, w = shape
    return layout.nchw(pinned((n, h, w, c), dtype))
