"""Adding arrays of one shape: where branches of a graph meet, and the gradients of a node's consumers."""

from nbprop import backend, layout
from nbprop.shapes import check_array, check_same_dtype, check_shape

__all__ = ["add_forward"]


def add_forward(a, b):
    """Add element by element: y = a + b. The gradient by a, and by b, is dy itself.

    Parameters
    ----------
    a, b : array, float32 or float64
        Of one shape.

    Returns
    -------
    y : array of a's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes differ.

    Source
    ------
    Seed 001, multivariate chain rule: a gradient is the sum over all paths, and a sum passes it on as it is.
    """
    a = check_array("a", a)
    b = check_array("b", b)
    check_shape("b", b, a.shape)
    check_same_dtype(a=a, b=b)
    a, b = layout.channels_last(a), layout.channels_last(b)
    y = layout.empty_like(a)
    backend.twin("add", a).add_forward(a, b, y, False)
    return y
