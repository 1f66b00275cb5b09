"""What comes into a layer's backward pass."""

import numpy as np

from nbprop import layout, shapes

__all__ = ["as_gradient"]


def as_gradient(dy, y):
    """Return `dy` in the memory order that kernels read, or refuse it if its shape or dtype is not y's."""
    if type(dy) is not type(y) or dy.shape != y.shape or dy.dtype != y.dtype:  # then say what is wrong
        dy = shapes.check_array("dy", dy)
        shapes.check_shape("dy", dy, y.shape)
        shapes.check_same_dtype(dy=dy, y=y)
    elif isinstance(dy, np.ndarray) and dy.strides == y.strides and dy.flags.behaved:
        return dy  # y, the layer's own, has that order
    return layout.channels_last(dy)
