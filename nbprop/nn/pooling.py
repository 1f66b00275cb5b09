"""Pooling layers."""

from types import SimpleNamespace

import numpy as np

from nbprop import layout, shapes, tape
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module
from nbprop.repeat import Repeated

__all__ = ["AvgPool2d", "MaxPool2d"]


class MaxPool2d(Module):
    """The largest element of each window (seed 000, section 3.1, equation 7).

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or pair of int
        The stride is `kernel_size` if None.
    return_indices : bool
        Return (y, indices), with indices h W + w of the winners in their planes as int64.
    ceil_mode : bool
        Keep a last window that hangs over the far edge, if it starts inside.
    """

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False,
                 ceil_mode=False):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = bool(return_indices), bool(ceil_mode)
        shapes.pool2d_window(kernel_size, self.stride, padding, dilation)

    def __call__(self, x):
        if not self.return_indices:
            return super().__call__(x)
        y, indices = self.forward(x)
        return y.copy("K"), indices.copy("K")

    def allocate(self, shape, dtype):
        g = shapes.max_pool2d(shape, self.kernel_size, self.stride, self.padding, self.dilation,
                              self.ceil_mode)
        return SimpleNamespace(
            forward=Repeated("max_pool", "max_pool2d_forward"),
            backward=Repeated("max_pool", "max_pool2d_backward"),
            window=(g.kernel, g.stride, g.padding, g.dilation),
            y=layout.empty(g.y_shape, dtype),
            winners=layout.empty(g.y_shape, np.int32),
            indices=layout.empty(g.y_shape, np.int64) if self.return_indices else None,
            dx=Lent(shape, dtype),
        )

    @looks_not
    def forward(self, x):
        x, p = self.enter(x, 4)
        p.forward.run(x, p.y, p.winners, *p.window)
        self._last = p
        if not self.return_indices:
            return p.y
        tape.flush()
        p.indices[...] = p.winners
        return p.y, p.indices

    @looks_not
    def backward(self, dy, input_gradient=True, relu=False):
        """Return dx; with `relu`, what the ReLU in front or behind would make of it."""
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        p.backward.run(dy, p.winners, p.y if relu else None, dx, *p.window)
        return dx


class AvgPool2d(Module):
    """The mean of each window (seed 000, section 3.3).

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
        The stride is `kernel_size` if None.
    ceil_mode : bool
        Keep a last window that hangs over the far edge, if it starts inside.
    count_include_pad : bool
        Let padding weigh as zeros; else divide by the number of elements of x.
    divisor_override : int, optional
        Divide by this instead.
    """

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, bool(ceil_mode)
        self.count_include_pad, self.divisor_override = bool(count_include_pad), divisor_override
        shapes.pool2d_window(kernel_size, self.stride, padding)
        if divisor_override is not None:
            shapes.integer("divisor_override", divisor_override, 1)

    def allocate(self, shape, dtype):
        g, divisor = shapes.avg_pool2d(shape, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                                       self.divisor_override)
        return SimpleNamespace(
            forward=Repeated("avg_pool", "avg_pool2d_forward"),
            backward=Repeated("avg_pool", "avg_pool2d_backward"),
            window=(g.kernel, g.stride, g.padding, self.count_include_pad, divisor),
            y=layout.empty(g.y_shape, dtype),
            dx=Lent(shape, dtype),
        )

    @looks_not
    def forward(self, x):
        x, p = self.enter(x, 4)
        p.forward.run(x, p.y, *p.window)
        self._last = p
        return p.y

    @looks_not
    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        p.backward.run(dy, dx, *p.window)
        return dx
