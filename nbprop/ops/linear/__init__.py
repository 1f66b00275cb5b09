"""The linear layer's matrix products on plain arrays."""

from nbprop import backend, layout, shapes

__all__ = ["linear_backward_input", "linear_backward_weight", "linear_forward"]


def linear_forward(x, w, b=None):
    """Map rows: y = x w^T + b.

    Parameters
    ----------
    x : array (N, K), float32 or float64
        One row per example.
    w : array (O, K)
        Weights, one row per output feature as in torch; fastest where w.T is C-contiguous.
    b : array (O,), optional
        Bias.

    Returns
    -------
    array (N, O)

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, by name.

    Notes
    -----
    Source: seed 003, section 2 (its W is w^T here); seed 004, output layer.
    """
    x = shapes.check_array("x", x, 2)
    w = shapes.check_array("w", w, 2)
    if b is not None:
        b = shapes.check_array("b", b, 1)
    shapes.check_same_dtype(x=x, w=w, b=b)
    g = shapes.linear(x.shape, w.shape)
    b = layout.zeros((g.O,), x.dtype, x) if b is None else layout.contiguous(b)
    shapes.check_shape("b", b, (g.O,))
    y = layout.empty((g.N, g.O), x.dtype, x)
    twin = backend.twin("linear", x)
    twin.forward(layout.contiguous(x), layout.contiguous(w.T).T, b, y, g, False, twin.workspace(g, x.dtype))
    return y


def linear_backward_input(dy, w):
    """Gradient by the input: dx = dy w.

    Parameters
    ----------
    dy : array (N, O)
        The loss's derivative by the output.
    w : array (O, K)
        Weights.

    Returns
    -------
    array (N, K)

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, by name.

    Notes
    -----
    Source: seed 003, section 2.3; seed 002, algorithm 6.4, last line.
    """
    dy = shapes.check_array("dy", dy, 2)
    w = shapes.check_array("w", w, 2)
    shapes.check_same_dtype(dy=dy, w=w)
    g = shapes.Linear(dy.shape[0], w.shape[1], w.shape[0])
    shapes.check_shape("dy", dy, (g.N, g.O))
    dx = layout.empty((g.N, g.K), dy.dtype, dy)
    twin = backend.twin("linear", dy)
    twin.backward_input(layout.contiguous(dy), layout.contiguous(w.T).T, None, dx, g, twin.workspace(g, dy.dtype))
    return dx


def linear_backward_weight(dy, x):
    """Gradients by the weights and the bias: dw = dy^T x, db = sum of dy over rows.

    Parameters
    ----------
    dy : array (N, O)
        The loss's derivative by the output.
    x : array (N, K)
        The input of the forward pass.

    Returns
    -------
    dw : array (O, K)
    db : array (O,)

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, by name.

    Notes
    -----
    Source: seed 003, sections 2.1 and 2.2; seed 004, output layer.
    """
    dy = shapes.check_array("dy", dy, 2)
    x = shapes.check_array("x", x, 2)
    shapes.check_same_dtype(dy=dy, x=x)
    g = shapes.Linear(x.shape[0], x.shape[1], dy.shape[1])
    shapes.check_shape("dy", dy, (g.N, g.O))
    dw, db = layout.empty((g.K, g.O), x.dtype, x).T, layout.empty((g.O,), x.dtype, x)
    twin = backend.twin("linear", x)
    twin.backward_weight(layout.contiguous(dy), layout.contiguous(x), dw, db, g, twin.workspace(g, x.dtype))
    return dw, db
