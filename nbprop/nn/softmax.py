"""Softmax and its logarithm as layers."""

from types import SimpleNamespace

from nbprop import backend, layout
from nbprop.lent import Lent
from nbprop.nn.module import Module, as_input
from nbprop.ops.softmax import check_axis
from nbprop.shapes import check_array, integer

__all__ = ["LogSoftmax", "Softmax"]


class Softmax(Module):
    """e^(x_k) / sum_j e^(x_j) along an axis (`ops.softmax.softmax_forward`).

    Parameters
    ----------
    dim : int
        The axis; torch's default, which guesses, is not supported.
    """

    op = "softmax"

    def __init__(self, dim):
        self.dim = integer("dim", dim, -32)

    def allocate(self, shape, dtype):
        axis = check_axis(self.dim, len(shape))
        return SimpleNamespace(axis=axis, y=layout.empty(shape, dtype), dx=Lent(shape, dtype))

    def forward(self, x):
        x = check_array("x", x)
        x = as_input(x)
        p = self._last = self.plan(x)
        getattr(backend.twin("softmax", x), f"{self.op}_forward")(x, p.y, p.axis)
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        getattr(backend.twin("softmax", dy), f"{self.op}_backward")(p.y, dy, dx, p.axis)
        return dx


class LogSoftmax(Softmax):
    """Logarithm of softmax along an axis (`ops.softmax.log_softmax_forward`).

    Parameters
    ----------
    dim : int
        The axis; torch's default, which guesses, is not supported.
    """

    op = "log_softmax"
