"""What convolution and linear layers share: a weight, a bias, and the three passes of one dense op."""

import threading
from types import SimpleNamespace

from nbprop import backend, layout
from nbprop.lent import Lent
from nbprop.nn.gradient import as_gradient
from nbprop.nn.module import Module

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
        return SimpleNamespace(g=g, y=layout.empty(y_shape, dtype), dx=None, zeros=zeros, unused=unused, work={})

    def forward(self, x, relu=False):
        """Return the output, or with `relu` its positive part: containers ask for it where a ReLU follows."""
        x, p = self.enter(x)
        self.last = p, x
        bias = p.zeros if self.bias is None else self.bias.data
        twin, work = self._at_work(p, x)
        twin.forward(x, self.weight.data, bias, p.y, p.g, relu, work)
        return p.y

    def backward(self, dy, input_gradient=True):
        p, x = self.last
        dy = as_gradient(dy, p.y)
        twin, work = self._at_work(p, x)
        db = p.unused if self.bias is None else self.bias.grad
        twin.backward_weight(dy, x, self.weight.grad, db, p.g, work)
        if not input_gradient:
            return None
        if p.dx is None:
            p.dx = Lent(x.shape, x.dtype, x)
        dx = p.dx.take()
        twin.backward_input(dy, self.weight.data, dx, p.g, work)
        return dx

    def _at_work(self, plan, x):
        """Return the twin for `x` and its scratch memory, borrowed at first for each Python thread."""
        key = backend.name(x), threading.get_ident()
        found = plan.work.get(key)
        if found is None:
            twin = backend.twin(self.op, x)
            found = plan.work[key] = twin, twin.workspace(plan.g, x.dtype)
        return found
