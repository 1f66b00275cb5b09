"""Windows as columns, and back, as layers."""

from types import SimpleNamespace

from nbprop import backend, layout, shapes
from nbprop.lent import Lent
from nbprop.nn.module import Module, as_input

__all__ = ["Fold", "Unfold"]


class Unfold(Module):
    """The windows of x as columns, (N, C KH KW, OH OW) (`ops.im2col.im2col`), as torch.nn's.

    Parameters
    ----------
    kernel_size, dilation, padding, stride : int or pair of int
    """

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        self.window = kernel_size, dilation, padding, stride

    def allocate(self, shape, dtype):
        g = shapes.columns2d(shape, *self.window)
        return SimpleNamespace(g=g, y=layout.empty(g.columns_shape, dtype), dx=Lent(shape, dtype))

    def forward(self, x):
        x = shapes.check_array("x", x, 4)
        x = as_input(x)
        p = self._last = self.plan(x)
        backend.twin("im2col", x).im2col(x, p.y, p.g)
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        backend.twin("im2col", dy).col2im(dy, dx, p.g)
        return dx


class Fold(Module):
    """The image whose pixels are sums over the windows that they are in (`ops.im2col.col2im`), as torch.nn's.

    Parameters
    ----------
    output_size : int or pair of int
        The image's height and width.
    kernel_size, dilation, padding, stride : int or pair of int
    """

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        self.window = output_size, kernel_size, dilation, padding, stride

    def allocate(self, shape, dtype):
        g = shapes.image_of_columns(shape, *self.window)
        return SimpleNamespace(g=g, y=layout.empty(g.x_shape, dtype), dx=Lent(shape, dtype))

    def forward(self, x):
        x = shapes.check_array("x", x, 3)
        x = as_input(x)
        p = self._last = self.plan(x)
        backend.twin("im2col", x).col2im(x, p.y, p.g)
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        backend.twin("im2col", dy).im2col(dy, dx, p.g)
        return dx
