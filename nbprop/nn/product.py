"""What convolution and linear layers share: a weight, a bias, and the three passes of one dense op."""

import functools
import threading
from types import SimpleNamespace

from nbprop import backend, layout
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module
from nbprop.repeat import Repeated

__all__ = ["Product"]


class Product(Module):
    """Base of layers y = (x by weight) + bias.

    A subclass names its folder of `nbprop.ops` in `op`, sets `weight` and `bias` (or None), and writes `geometry`.
    """

    op = ""

    def geometry(self, shape):
        """Check an input shape and return (the op's geometry, the output's shape)."""
        raise NotImplementedError(f"{type(self).__name__} does not define geometry(shape)")

    def allocate(self, shape, dtype):
        if dtype != self.weight.dtype:
            raise ValueError(f"x has dtype {dtype}; expected {self.weight.dtype}, the dtype of the layer's weights")
        g, y_shape = self.geometry(shape)
        zeros, unused = layout.zeros((y_shape[1],), dtype), layout.zeros((y_shape[1],), dtype)
        work = {}
        mine = functools.partial(_mine, work, self.op, g)
        return SimpleNamespace(
            forward=Repeated(self.op, "forward", work=mine),
            backward_weight=Repeated(self.op, "backward_weight", work=mine),
            backward_input=Repeated(self.op, "backward_input", work=mine),
            g=g, y=layout.empty(y_shape, dtype), dx=None, zeros=zeros, unused=unused, work=work,
        )  # fmt: skip

    @looks_not
    def forward(self, x, relu=False):
        """Return the output, or with `relu` its positive part: containers ask for it where a ReLU follows."""
        x, p = self.enter(x)
        self.last = p, x
        bias = p.zeros if self.bias is None else self.bias.data
        p.forward.run(x, self.weight.data, bias, p.y, p.g, relu)
        return p.y

    @looks_not
    def backward(self, dy, input_gradient=True, relu_in_front=False):
        """Overwrite the gradients; return dx, with `relu_in_front` what that ReLU returns: its own pass is left out."""
        p, x = self.last
        dy = self.receive(dy, p.y)
        db = p.unused if self.bias is None else self.bias.grad
        p.backward_weight.run(dy, x, self.weight.grad, db, p.g)
        if not input_gradient:
            return None
        if p.dx is None:
            p.dx = Lent(x.shape, x.dtype, x)
        dx = p.dx.take()
        p.backward_input.run(dy, self.weight.data, x if relu_in_front else None, dx, p.g)
        return dx


def _mine(work, op, g, x):
    """Return the scratch memory that the twin for `x` needs, borrowed at first for each Python thread."""
    key = backend.name(x), threading.get_ident()
    if key not in work:  # what the reference needs is None
        work[key] = backend.twin(op, x).workspace(g, x.dtype)
    return work[key]
