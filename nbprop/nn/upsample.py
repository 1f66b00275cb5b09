"""The resizing layer."""

from types import SimpleNamespace

from nbprop import backend, layout, shapes
from nbprop.lent import Lent
from nbprop.nn.module import Module, as_input
from nbprop.ops import upsample

__all__ = ["Upsample"]


class Upsample(Module):
    """x at another size (`ops.upsample.upsample_forward`), as torch.nn's.

    Parameters
    ----------
    size : int or pair of int, optional
        The output's height and width.
    scale_factor : float or pair of float, optional
        Instead of `size`.
    mode : str
        "nearest" or "bilinear".
    align_corners : bool, optional
        For "bilinear": whether the corner pixels keep their values; False if None.
    """

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None):
        upsample.check_mode(mode, align_corners)
        shapes.check_one_of("size", size, "scale_factor", scale_factor)
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def allocate(self, shape, dtype):
        y_shape, *axes = upsample.geometry(shape, dtype, self.size, self.scale_factor, self.mode,
                                           self.align_corners)
        y = layout.empty(y_shape, dtype)
        return SimpleNamespace(axes=upsample.beside(y, *axes), y=y, dx=Lent(shape, dtype),
                               work=upsample.workspace(shape, y_shape, dtype))

    def forward(self, x):
        x = shapes.check_array("x", x, 4)
        x = as_input(x)
        p = self._last = self.plan(x)
        backend.twin("upsample", x).upsample_forward(x, p.y, *p.axes, p.work)
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        backend.twin("upsample", dy).upsample_backward(dy, dx, *p.axes, p.work)
        return dx
