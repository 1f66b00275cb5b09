"""Layer norm."""

from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.lent import Lent
from nbprop.nn.module import Module, Parameter, as_input
from nbprop.ops.layer_norm import as_rows, from_rows

__all__ = ["LayerNorm"]


class LayerNorm(Module):
    """Normalise each sample over its last axes: `ops.layer_norm.layer_norm_forward`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the last axes.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether a weight and a bias of `normalized_shape` are learned.
    bias : bool
        Whether that bias is.
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    Over (C, H, W) of images, and over features, memory is used as it lies. Over (H, W) or (W,) of images,
    whose memory is N, H, W, C, each array is copied into another order and back. Source: Ba, Kiros and Hinton
    2016.
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, dtype=np.float32):
        shape = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        if not shape:
            raise ValueError("normalized_shape is (); expected the sizes of at least one axis")
        self.normalized_shape = tuple(shapes.integer("normalized_shape", size, 1) for size in shape)
        self.eps = shapes.not_negative("eps", eps)
        memory = (1, 2, 0) if len(shape) == 3 else None
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = Parameter(np.ones(self.normalized_shape, dtype), memory)
            self.bias = Parameter(np.zeros(self.normalized_shape, dtype), memory) if bias else None

    def allocate(self, shape, dtype):
        rows, features = shapes.layer_norm(shape, self.normalized_shape)
        if self.weight is not None and dtype != self.weight.dtype:
            raise ValueError(f"x has dtype {dtype}; expected {self.weight.dtype}, as the weights have")
        y = layout.empty(shape, dtype)
        y_rows = self._rows(y)
        mean, rstd = layout.empty((2, rows), np.float64)
        return SimpleNamespace(
            rows=rows, features=features, y=y, y_rows=y_rows, dx=Lent(shape, dtype),
            dx_rows=None if _shared(y_rows, y) else Lent(y_rows.shape, dtype), mean=mean, rstd=rstd,
            ones=layout.full((features,), 1, dtype), zeros=layout.zeros((features,), dtype),
            unused=layout.empty((features,), dtype), work={},
        )  # fmt: skip

    def _rows(self, a):
        """Return `a` as (rows, features) where that is a view, else other memory of that shape."""
        return as_rows(a, len(self.normalized_shape))

    def _settle(self, rows, a):
        """Copy rows to where `a` lies, if they are not a view of it."""
        if not _shared(rows, a):
            a[...] = from_rows(rows, a.shape, len(self.normalized_shape))
        return a

    def forward(self, x):
        x = shapes.check_array("x", x)
        x = as_input(x)
        p = self.plan(x)
        x = self._rows(x)
        weight = p.ones if self.weight is None else self._rows(self.weight.data).reshape(-1)
        bias = p.zeros if self.bias is None else self._rows(self.bias.data).reshape(-1)
        twin = backend.twin("layer_norm", x)
        twin.layer_norm_forward(x, weight, bias, self.eps, p.mean, p.rstd, p.y_rows)
        self._last = p, x, weight, twin
        return self._settle(p.y_rows, p.y)

    def backward(self, dy, input_gradient=True):
        p, x, weight, twin = self._last
        dy = self._rows(self.receive(dy, p.y))
        if self.weight is not None:
            if twin not in p.work:
                p.work[twin] = twin.workspace(p.rows, p.features, x.dtype)
            dw = self._rows(self.weight.grad).reshape(-1)
            db = p.unused if self.bias is None else self._rows(self.bias.grad).reshape(-1)
            twin.layer_norm_backward_weight(dy, x, p.mean, p.rstd, dw, db, p.work[twin])
        if not input_gradient:
            return None
        dx = p.dx.take()
        rows = self._rows(dx) if p.dx_rows is None else p.dx_rows.take()
        twin.layer_norm_backward_input(dy, x, weight, p.mean, p.rstd, rows)
        return self._settle(rows, dx)


def _shared(rows, a):
    """Say whether the rows are a view of `a`."""
    return rows.owner is a.owner if layout.on_gpu(a) else np.may_share_memory(rows, a)
