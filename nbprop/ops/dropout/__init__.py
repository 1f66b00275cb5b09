"""Inverted dropout with a mask that is a pure function of seed, step and position."""

from nbprop import backend, layout, shapes
from nbprop.ops.flat import flat

__all__ = ["dropout_backward", "dropout_forward"]


def dropout_forward(x, p, seed, step=0):
    """Set each element to zero with probability p, and scale the others so that the mean stays.

        y_i = x_i [r_i >= p] / (1 - p),   r_i uniform in [0, 1), a hash of (seed, step, i)

    i counts elements in memory order (N, H, W, C for a map), so the mask does not depend on threads and needs
    no memory: backward computes it again.

    Parameters
    ----------
    x : array of any shape, float32 or float64
    p : float in 0 .. 1
        With 1 everything is dropped.
    seed, step : int, 0 <= value < 2**63
        A layer draws its seed once and counts its steps.

    Returns
    -------
    y : array of the shape and dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array, or `p`, `seed` or `step` is out of range.

    Source
    ------
    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", in the
    inverted form of torch. Not in the seeds.
    """
    return _apply("dropout_forward", "x", x, p, seed, step)


def dropout_backward(dy, p, seed, step=0):
    """Return the gradient by `x`: dy through the same mask and scale.

        dx_i = dy_i [r_i >= p] / (1 - p)

    Parameters
    ----------
    dy : array of any shape, float32 or float64
    p, seed, step
        As in the forward pass.

    Returns
    -------
    dx : array of the shape and dtype of `dy`

    Raises
    ------
    ValueError
        If `dy` is not such an array, or `p`, `seed` or `step` is out of range.

    Source
    ------
    Seed 000, equation 2, with the factor above as the slope.
    """
    return _apply("dropout_backward", "dy", dy, p, seed, step)


def _apply(function, name, x, p, seed, step):
    x = shapes.check_array(name, x)
    p = shapes.probability("p", p)
    seed, step = shapes.integer("seed", seed, 0), shapes.integer("step", step, 0)
    if max(seed, step) >= 2**63:
        raise ValueError(f"seed is {seed} and step is {step}; expected both below 2**63")
    x = layout.channels_last(x)
    y = layout.empty_like(x)
    getattr(backend.twin("dropout", x), function)(flat(x), flat(y), p, seed, step)
    return y
