"""Unpooling layers."""

from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.lent import Lent
from nbprop.nn.module import Module, as_input
from nbprop.ops.avg_unpool import check_mode
from nbprop.ops.max_unpool import checked_positions

__all__ = ["AvgUnpool2d", "MaxUnpool2d"]


class _Unpool2d(Module):
    """Shared by the two layers: the pooling's arguments, and buffers for the size of output asked for."""

    def __init__(self, kernel_size, stride, padding):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding
        shapes.pool2d_window(kernel_size, self.stride, padding)

    def allocate(self, shape, dtype):
        return SimpleNamespace(dx=Lent(shape, dtype), g=None, y=None, owners=None)

    def _buffers(self, x, output_size):
        g = shapes.unpool2d(x.shape, self.kernel_size, self.stride, self.padding, output_size)
        p = self.plan(x)
        if p.g != g:
            p.g, p.y, p.owners = g, layout.empty(g.x_shape, x.dtype, x), None
        return p


class MaxUnpool2d(_Unpool2d):
    """Put each element where max pooling found it, in a plane of zeros: `ops.max_unpool`.

    Call it with x, the indices, and possibly an `output_size`, where several sizes pool to that of x.

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
        Of the max pooling. The stride is `kernel_size` if None.

    Notes
    -----
    Of elements with one position the last in row order stands, and the gradient goes to it alone. An index
    outside the output's plane is refused. Source: seed 000, section 3.2.
    """

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__(kernel_size, stride, padding)

    def __call__(self, x, indices, output_size=None):
        return self.forward(x, indices, output_size).copy("K")

    def forward(self, x, indices, output_size=None):
        x = shapes.check_array("x", x, 4)
        x = as_input(x)
        p = self._buffers(x, output_size)
        indices = checked_positions(indices, p.g)
        twin = backend.twin("max_unpool", x)
        twin.max_unpool2d_forward(x, indices, p.y)
        self._last = p, indices, twin
        return p.y

    def backward(self, dy, input_gradient=True):
        p, indices, twin = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        if p.owners is None:
            p.owners = layout.empty(p.g.x_shape, np.int32, dy)
        dx = p.dx.take()
        twin.max_unpool2d_backward(dy, indices, p.owners, dx)
        return dx


class AvgUnpool2d(_Unpool2d):
    """Spread each element over its window: `ops.avg_unpool.avg_unpool2d_forward` (torch has no such layer).

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
        Of the average pooling. The stride is `kernel_size` if None.
    mode : str
        "copy": each position has the mean of the values whose windows hold it. "adjoint": the adjoint of
        average pooling, which divides by the size of the window.

    Notes
    -----
    Call it with x, and possibly an `output_size`, where several sizes pool to that of x. Source: seed 000,
    section 3.4.
    """

    def __init__(self, kernel_size, stride=None, padding=0, mode="copy"):
        super().__init__(kernel_size, stride, padding)
        check_mode(mode)
        self.mode = mode

    def __call__(self, x, output_size=None):
        return self.forward(x, output_size).copy("K")

    def forward(self, x, output_size=None):
        x = shapes.check_array("x", x, 4)
        x = as_input(x)
        p = self._buffers(x, output_size)
        twin = backend.twin("avg_unpool", x)
        twin.avg_unpool2d_forward(x, p.y, p.g.kernel, p.g.stride, p.g.padding, self.mode == "copy")
        self._last = p
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        twin = backend.twin("avg_unpool", dy)
        dx = p.dx.take()
        twin.avg_unpool2d_backward(dy, dx, p.g.kernel, p.g.stride, p.g.padding, self.mode == "copy")
        return dx
