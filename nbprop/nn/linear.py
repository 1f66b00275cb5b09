"""The linear layer."""

import numpy as np

from nbprop import shapes
from nbprop.nn import init
from nbprop.nn.module import Parameter
from nbprop.nn.product import Product

__all__ = ["Linear"]


class Linear(Product):
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

    op = "linear"

    def __init__(self, in_features, out_features, bias=True, dtype=np.float32):
        K, O = shapes.integer("in_features", in_features, 1), shapes.integer("out_features", out_features, 1)
        self.weight = Parameter(init.uniform((O, K), K, dtype), memory=(1, 0))
        self.bias = Parameter(init.uniform((O,), K, dtype)) if bias else None

    def geometry(self, shape):
        if len(shape) != 2:
            raise ValueError(f"x has shape {tuple(shape)}; expected (N, features): put a Flatten in front")
        g = shapes.linear(shape, self.weight.shape)
        return g, (g.N, g.O)
