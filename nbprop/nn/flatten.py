"""Maps to rows, for the linear layers at the end of a network."""

import math
from types import SimpleNamespace

from nbprop import layout, tape
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module

__all__ = ["Flatten"]


class Flatten(Module):
    """(N, C, H, W) -> (N, C H W), each row in the order C, H, W, so that weights exchange with torch.

    Memory is N, H, W, C, so this is one copy (and one back), except where C or H W is 1 and the orders agree.
    It is NumPy's copy: a kernel of our own saves 40 us of a CIFAR step and costs a compilation.

    Parameters
    ----------
    start_dim, end_dim : int
        1 and -1 (or the last axis): other ranges are not supported.
    """

    def __init__(self, start_dim=1, end_dim=-1):
        if start_dim != 1:
            raise ValueError(f"start_dim is {start_dim!r}; expected 1: only whole samples are flattened")
        if end_dim not in (-1, 1, 2, 3):
            raise ValueError(f"end_dim is {end_dim!r}; expected -1: only whole samples are flattened")
        self.start_dim, self.end_dim = start_dim, end_dim

    def allocate(self, shape, dtype):
        if self.end_dim not in (-1, len(shape) - 1):
            raise ValueError(f"end_dim is {self.end_dim} and x has shape {tuple(shape)}; expected -1 or "
                             f"{len(shape) - 1}: only whole samples are flattened")
        rows = shape[0], math.prod(shape[1:])
        if len(shape) != 4 or 1 in (shape[1], shape[2] * shape[3]):
            return SimpleNamespace(copies=False, shape=shape, rows=rows)
        y = layout.empty(rows, dtype)
        return SimpleNamespace(copies=True, y=y, maps=y.reshape(shape), dx=Lent(shape, dtype))

    @looks_not
    def forward(self, x):
        x, p = self.enter(x, (2, 4))
        if p.copies:
            tape.flush()
            p.maps[...] = x
            y = p.y
        else:
            y = _view(x, p.rows)
        self._last = (p, y)
        return y

    @looks_not
    def backward(self, dy, input_gradient=True):
        p, y = self._last
        dy = self.receive(dy, y)
        if not input_gradient:
            return None
        if p.copies:
            dx = p.dx.take()
            tape.flush()
            dx[...] = dy.reshape(dx.shape)
            return dx
        return _view(dy, p.shape)


def _view(x, shape):
    # One axis of (C, H W) is 1, so memory order and (C, H, W) order are one.
    if x.ndim == 4:
        return layout.nhwc(x).reshape(shape)
    if len(shape) == 4:
        n, c, h, w = shape
        return layout.nchw(x.reshape(n, h, w, c))
    return x
