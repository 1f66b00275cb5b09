"""The Gram matrix as a layer, and the style loss made from it."""

import threading
from types import SimpleNamespace

import numpy as np

from nbprop import backend, jit, layout, shapes
from nbprop.lent import Lent
from nbprop.nn.loss import Loss
from nbprop.nn.module import Module, as_input
from nbprop.ops import gram, pointwise_loss

__all__ = ["GramMatrix", "StyleLoss"]


class GramMatrix(Module):
    """G = X X^T of each image's channels (seed 000, section 6.1): (N, C, H, W) to (N, C, C).

    Parameters
    ----------
    normalize : bool
        Divide by C H W.
    """

    def __init__(self, normalize=False):
        self.normalize = bool(normalize)

    def allocate(self, shape, dtype):
        N, C, _, _ = shape
        return SimpleNamespace(y=layout.empty((N, C, C), dtype), dx=Lent(shape, dtype), work={})

    def forward(self, x):
        x = as_input(gram.check_input(x))
        p = self.plan(x)
        self._last = p, x
        twin, work = _twin(p, x)
        twin.gram_forward(x, p.y, gram.scale(x, self.normalize), work)
        return p.y

    def backward(self, dy, input_gradient=True):
        p, x = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        twin, work = _twin(p, x)
        dx = p.dx.take()
        twin.gram_backward(dy, x, dx, gram.scale(x, self.normalize), work)
        return dx


def _twin(p, x):
    """Return the twin that serves `x` and its scratch memory, made once for a Python thread and a thread count."""
    twin = backend.twin("gram", x)
    key = twin, threading.get_ident(), jit.threads()
    if key not in p.work:
        p.work[key] = twin.workspace(x.shape, x.dtype)
    return twin, p.work[key]


@jit.scalar
def _quarter_squared(y, t):
    return np.float32(0.25) * (y - t) * (y - t)


@jit.scalar
def _quarter_squared_slope(y, t):
    return np.float32(0.5) * (y - t)


_QUARTER_SQUARED = pointwise_loss.LossPair(_quarter_squared, _quarter_squared_slope)


class StyleLoss(Loss):
    """1/4 sum over i, j of (G[i, j] - A[i, j])^2, the mean over images, with G = X X^T / (C H W).

    The squared distance between an image's Gram matrix and a style's, each normalised by its own size: for
    images of equal size it is equation 4 of Gatys, Ecker and Bethge 2015, 1 / (4 C^2 (H W)^2) of the raw
    distance. The gradient by G is (G - A) / 2, and by X that of seed 000, equation 15:

        dX = (delta + delta^T) X / (C H W) = (G - A) X / (C H W)        as G - A is symmetric

    The target A is `GramMatrix(normalize=True)` of the style's features: (N, C, C), or (1, C, C) for all
    images.
    """

    def __init__(self):
        self.matrix = GramMatrix(normalize=True)

    def allocate(self, x):
        N, C, _, _ = x.shape
        target, slope, dy = (layout.empty((N, C, C), x.dtype, x) for _ in range(3))
        losses = pointwise_loss.buffers(slope, "batchmean")
        return SimpleNamespace(target=target, slope=slope, dy=dy, losses=losses)

    def forward(self, x, target):
        x = gram.check_input(x)
        target = shapes.check_array("target", target, 3)
        shapes.check_same_dtype(x=x, target=target)
        N, C, _, _ = x.shape
        if target.shape not in ((N, C, C), (1, C, C)):
            raise ValueError(f"target has shape {target.shape}; expected Gram matrices, {(N, C, C)} or "
                             f"{(1, C, C)}")
        p = self._last = self.plan(x)
        p.target[...] = target
        y = self.matrix.forward(x)
        return pointwise_loss.evaluate(_QUARTER_SQUARED, (), y, p.target, "batchmean", p.losses, p.slope)

    def backward(self, dy=1.0):
        p = self._last
        if np.ndim(dy):
            shapes.check_shape("dy", dy, ())
        p.dy[...] = p.slope
        layout.multiply(p.dy, dy)
        return self.matrix.backward(p.dy)
