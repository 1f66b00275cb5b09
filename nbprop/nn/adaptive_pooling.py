"""Adaptive pooling layers."""

from types import SimpleNamespace

import numpy as np

from nbprop import layout, shapes, tape
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module
from nbprop.repeat import Repeated

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d"]


class AdaptiveAvgPool2d(Module):
    """The mean of each of OH x OW windows that divide the image: `ops.adaptive_pool`.

    Parameters
    ----------
    output_size : int or pair of int or None
        OH and OW; None keeps that size of the input. 1 is global average pooling.
    """

    def __init__(self, output_size):
        shapes.adaptive_pool2d((1, 1, 1, 1), output_size)
        self.output_size = output_size

    def allocate(self, shape, dtype):
        y_shape = shapes.adaptive_pool2d(shape, self.output_size)
        return SimpleNamespace(
            forward=Repeated("adaptive_pool", "adaptive_avg_pool2d_forward"),
            backward=Repeated("adaptive_pool", "adaptive_avg_pool2d_backward"),
            y=layout.empty(y_shape, dtype), dx=Lent(shape, dtype),
        )  # fmt: skip

    @looks_not
    def forward(self, x):
        x, p = self.enter(x, 4)
        p.forward.run(x, p.y)
        self._last = p
        return p.y

    @looks_not
    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        p.backward.run(dy, dx)
        return dx


class AdaptiveMaxPool2d(Module):
    """The largest element of each of OH x OW windows that divide the image: `ops.adaptive_pool`.

    Parameters
    ----------
    output_size : int or pair of int or None
        OH and OW; None keeps that size of the input.
    return_indices : bool
        Return (y, indices), with indices h W + w of the winners in their planes as int64.
    """

    def __init__(self, output_size, return_indices=False):
        shapes.adaptive_pool2d((1, 1, 1, 1), output_size)
        self.output_size, self.return_indices = output_size, bool(return_indices)

    def __call__(self, x):
        if not self.return_indices:
            return super().__call__(x)
        y, indices = self.forward(x)
        return y.copy("K"), indices.copy("K")

    def allocate(self, shape, dtype):
        y_shape = shapes.adaptive_pool2d(shape, self.output_size)
        return SimpleNamespace(
            forward=Repeated("adaptive_pool", "adaptive_max_pool2d_forward"),
            backward=Repeated("adaptive_pool", "adaptive_max_pool2d_backward"),
            y=layout.empty(y_shape, dtype), dx=Lent(shape, dtype),
            winners=layout.empty(y_shape, np.int32),
            indices=layout.empty(y_shape, np.int64) if self.return_indices else None,
        )  # fmt: skip

    @looks_not
    def forward(self, x):
        x, p = self.enter(x, 4)
        p.forward.run(x, p.y, p.winners)
        self._last = p
        if not self.return_indices:
            return p.y
        tape.flush()
        p.indices[...] = p.winners
        return p.y, p.indices

    @looks_not
    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        p.backward.run(dy, p.winners, dx)
        return dx
