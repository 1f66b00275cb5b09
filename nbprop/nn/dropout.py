"""Dropout."""

from types import SimpleNamespace

from nbprop import backend, layout, shapes
from nbprop.lent import Lent
from nbprop.nn import init
from nbprop.nn.module import Module, as_input
from nbprop.ops.flat import flat

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, set each element to 0 with probability p and scale the others by 1/(1-p); else pass x on.

    The mask is a function of a seed, which each layer draws when it is made, of the number of training passes
    so far and of the position: the same for any number of threads, and computed again by the backward pass.

    Parameters
    ----------
    p : float
        Probability of dropping an element.
    inplace : bool
        Not supported; False.
    """

    def __init__(self, p=0.5, inplace=False):
        if inplace:
            raise ValueError(f"inplace is {inplace!r}; expected False, as layers never write to their input")
        self.p = shapes.probability("p", p)
        self.seed = int(init.generator().integers(2**63))
        self.step = 0

    def allocate(self, shape, dtype):
        y = layout.empty(shape, dtype)
        return SimpleNamespace(y=y, flat_y=flat(y), dx=Lent(shape, dtype))

    def forward(self, x):
        x = shapes.check_array("x", x)
        x = as_input(x)
        if not self.training or self.p == 0:
            self._last = (None, x, None)
            return x
        p = self.plan(x)
        self.step += 1
        backend.twin("dropout", x).dropout_forward(flat(x), p.flat_y, self.p, self.seed, self.step)
        self._last = (p, p.y, self.step)
        return p.y

    def backward(self, dy, input_gradient=True):
        p, y, step = self._last
        dy = self.receive(dy, y)
        if not input_gradient:
            return None
        if p is None:
            return dy
        dx = p.dx.take()
        backend.twin("dropout", dy).dropout_backward(flat(dy), flat(dx), self.p, self.seed, step)
        return dx
