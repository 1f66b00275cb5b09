"""Padding and cropping layers (seed 000, sections 4.1 and 4.2)."""

from types import SimpleNamespace

from nbprop import backend, layout, shapes
from nbprop.lent import Lent
from nbprop.nn.module import Module, as_input

__all__ = ["CircularPad2d", "ConstantPad2d", "Crop2d", "ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d"]


class _Border(Module):
    """What the layers share: `padding` (left, right, top, bottom), a mode of ops.border, and its constant."""

    mode = "constant"
    value = 0.0

    def __init__(self, padding):
        self.padding = shapes.sides("padding", padding)

    def allocate(self, shape, dtype):
        g = shapes.border2d(shape, self.padding, self.mode)
        border = g.padding, shapes.BORDERS.index(g.mode)
        return SimpleNamespace(border=border, y=layout.empty(g.y_shape, dtype), dx=Lent(shape, dtype))

    def forward(self, x):
        x = shapes.check_array("x", x, 4)
        x = as_input(x)
        p = self._last = self.plan(x)
        backend.twin("border", x).border_forward(x, p.y, *p.border, self.value)
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        backend.twin("border", dy).border_backward(dy, dx, *p.border)
        return dx


class ZeroPad2d(_Border):
    """Zeros around x; a negative padding crops.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """


class ConstantPad2d(_Border):
    """A constant around x; a negative padding crops.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    value : float
    """

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = float(value)


class ReflectionPad2d(_Border):
    """x reflected about its edges, which are not repeated: 2 1 [0 1 2 3] 2 1.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        At most H - 1 rows and W - 1 columns.
    """

    mode = "reflect"


class ReplicationPad2d(_Border):
    """The edges of x repeated: 0 0 [0 1 2 3] 3 3.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """

    mode = "replicate"


class CircularPad2d(_Border):
    """x wrapped around: 2 3 [0 1 2 3] 0 1.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        At most H rows and W columns.
    """

    mode = "circular"


class Crop2d(_Border):
    """x without some rows and columns at its edges: padding with the signs turned.

    Parameters
    ----------
    crop : int or (left, right, top, bottom)
        At least 0 each.
    """

    def __init__(self, crop):
        amounts = shapes.sides("crop", crop)
        if min(amounts) < 0:
            raise ValueError(f"crop is {crop!r}; expected no negative number: ZeroPad2d adds rows"
                             " and columns")
        super().__init__(tuple(-a for a in amounts))
