"""The linear layer."""

from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.nn import init
from nbprop.nn.conv import workspace
from nbprop.nn.gradient import as_gradient
from nbprop.nn.module import Module, Parameter, as_input

__all__ = ["Linear"]


class Linear(Module):
    """Map rows: y = x w^T + b, with torch.nn.Linear's arguments, on (N, in_features).

    Parameters
    ----------
    in_features, out_features : int
        K and O.
    bias : bool
        Whether a bias is learned.
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    `weight` is (O, K), kept in memory as K, O. Source: seed 003, section 2.
    """

    def __init__(self, in_features, out_features, bias=True, dtype=np.float32):
        K, O = shapes.integer("in_features", in_features, 1), shapes.integer("out_features", out_features, 1)
        self.weight = Parameter(init.uniform((O, K), K, dtype), memory=(1, 0))
        self.bias = Parameter(init.uniform((O,), K, dtype)) if bias else None

    def allocate(self, shape, dtype):
        if len(shape) != 2:
            raise ValueError(f"x has shape {tuple(shape)}; expected (N, features): put a Flatten in front")
        if dtype != self.weight.dtype:
            raise ValueError(f"x has dtype {dtype}; expected {self.weight.dtype}, the dtype of the layer's weights")
        g = shapes.linear(shape, self.weight.shape)
        zeros, unused = np.zeros(g.O, dtype), np.zeros(g.O, dtype)
        return SimpleNamespace(g=g, y=layout.empty((g.N, g.O), dtype), dx=None, zeros=zeros, unused=unused, work={})

    def forward(self, x, relu=False):
        """Return the output, or with `relu` its positive part: Sequential asks for it where a ReLU follows."""
        x = as_input(x)
        p = self.plan(x)
        self.last = p, x
        bias = p.zeros if self.bias is None else self.bias.data
        twin = backend.twin("linear", x)
        twin.forward(x, self.weight.data, bias, p.y, p.g, relu, workspace(twin, p, x.dtype))
        return p.y

    def backward(self, dy, input_gradient=True):
        p, x = self.last
        dy = as_gradient(dy, p.y)
        twin = backend.twin("linear", x)
        work = workspace(twin, p, x.dtype)
        db = p.unused if self.bias is None else self.bias.grad
        twin.backward_weight(dy, x, self.weight.grad, db, p.g, work)
        if not input_gradient:
            return None
        if p.dx is None:
            p.dx = layout.empty_like(x)
        twin.backward_input(dy, self.weight.data, p.dx, p.g, work)
        return p.dx
