"""A layer from any function and the product with its Jacobian: seed 001, last row of its table."""

import numpy as np

from nbprop import layout, shapes
from nbprop.nn.module import Module, as_input

__all__ = ["Function"]


class Function(Module):
    """y = f(x) and dx = J^T dy, with J[k, r] = df_k/dx_r, for a function of your own.

        cumulative = nn.Function(lambda x: np.cumsum(x, axis=1),
                                 lambda x, dy: np.cumsum(dy[:, ::-1], axis=1)[:, ::-1])

    `nbprop.gradcheck(layer, x)` says whether the two belong together. Source: seed 001, "arbitrary function",
    g_i = J^T g_{i+1}; seed 002, section 2.

    Parameters
    ----------
    forward : function
        x -> y, an array of x's dtype. It must not write to x.
    jacobian_product : function
        x, dy -> dx = J^T dy, of x's shape and dtype. It must not write to x or dy.
    """

    def __init__(self, forward, jacobian_product):
        for name, function in (("forward", forward), ("jacobian_product", jacobian_product)):
            if not callable(function):
                raise ValueError(f"{name} is {function!r}; expected a function")
        self.function, self.jacobian_product = forward, jacobian_product

    def forward(self, x):
        x = shapes.check_array("x", x)
        x = as_input(x)
        y = _checked("forward(x)", self.function(x), x)
        self._last = (x, y)
        return y

    def backward(self, dy, input_gradient=True):
        x, y = self._last
        dy = self.receive(dy, y)
        if not input_gradient:
            return None
        dx = _checked("jacobian_product(x, dy)", self.jacobian_product(x, dy), x)
        if dx.shape != x.shape:
            raise ValueError(f"jacobian_product(x, dy) has shape {dx.shape}; expected {x.shape}, "
                             "the shape of x: it is J^T dy")
        return dx


def _checked(name, value, x):
    if layout.on_gpu(value):
        value = layout.gpu().as_array(value)
    is_array = isinstance(value, np.ndarray) or layout.on_gpu(value)
    if not is_array or value.dtype != x.dtype:
        came = f"an array of {value.dtype}" if is_array else f"a {type(value).__name__}"
        raise ValueError(f"{name} returned {came}; expected an array of {x.dtype}, the dtype of x")
    shapes.check_same_place(**{"x": x, name: value})
    return as_input(value)
