"""Steps of SGD, Adam and AdamW, in place, over flat vectors of parameters; and the norm and health of a gradient."""

import math

import numpy as np

from nbprop import backend, layout
from nbprop.shapes import check_array, check_same_dtype, check_shape

__all__ = ["adam_update", "norm", "sgd_momentum_update", "sgd_update"]

CHUNK = 1 << 15  # elements of one partial sum: fixed, whatever the number of threads


def sgd_update(w, dw, lr, weight_decay=0.0):
    """Step downhill: w <- w - lr (dw + weight_decay w).

    Parameters
    ----------
    w : array (n,), float32 or float64, contiguous
        Parameters; updated in place.
    dw : array (n,)
        The loss's gradient by them.
    lr, weight_decay : float

    Returns
    -------
    None

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or an array is not one contiguous run that may be written to.

    Source
    ------
    Seeds 002, algorithm 6.4, and 004, "Weight updates", whose lambda is `weight_decay`; torch.optim.SGD.
    """
    w, dw = _check(w=w, dw=dw)
    backend.twin("update", w).sgd_update(w, dw, lr, weight_decay, None)


def sgd_momentum_update(w, dw, m, lr, momentum, dampening=0.0, weight_decay=0.0, nesterov=False):
    """Step along a decaying sum of gradients: with g = dw + weight_decay w,

        m <- momentum m + (1 - dampening) g;  w <- w - lr m, or w - lr (g + momentum m) if `nesterov`.

    Parameters
    ----------
    w, dw : array (n,), float32 or float64, contiguous
        Parameters, updated in place, and the loss's gradient by them.
    m : array (n,)
        The running sum, updated in place; zeros before the first step.
    lr, momentum, dampening, weight_decay : float
    nesterov : bool

    Returns
    -------
    None

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or an array is not one contiguous run that may be written to.

    Source
    ------
    Sutskever et al. 2013, equations 1 to 4, in the form of torch.optim.SGD.
    """
    w, dw, m = _check(w=w, dw=dw, m=m)
    backend.twin("update", w).sgd_momentum_update(w, dw, m, lr, momentum, dampening, weight_decay, nesterov, None)


def adam_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step):
    """Step scaled by running means of the gradient g and of its square:

        m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2
        w <- w - lr m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps)

    with g = dw + weight_decay w (Adam), or g = dw after w <- w - lr weight_decay w if `decoupled` (AdamW).

    Parameters
    ----------
    w, dw : array (n,), float32 or float64, contiguous
        Parameters, updated in place, and the loss's gradient by them.
    m, v : array (n,)
        The running means, updated in place; zeros before the first step.
    lr, beta1, beta2, eps, weight_decay : float
    decoupled : bool
    step : int
        1 for the first step.

    Returns
    -------
    None

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or an array is not one contiguous run that may be written to.

    Source
    ------
    Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
    """
    w, dw, m, v = _check(w=w, dw=dw, m=m, v=v)
    twin = backend.twin("update", w)
    twin.adam_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step, None)


def norm(x):
    """Euclidean norm of a vector, summed in float64: sqrt(sum x_i^2). NaN or infinite if an entry is.

    Parameters
    ----------
    x : array (n,), float32 or float64, contiguous

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If x is not one contiguous run of float32 or float64.

    Source
    ------
    Definition.
    """
    x = check_array("x", x, 1)
    if not x.flags.c_contiguous:
        raise ValueError(f"x has strides {x.strides}; expected one contiguous run of memory")
    partial = partial_sums(x)
    backend.twin("update", x).squared_norms(x, partial)
    return math.sqrt((layout.gpu().to_host(partial) if layout.on_gpu(partial) else partial).sum())


def partial_sums(x):
    """Allocate room for the partial sums of a vector's squares, beside it."""
    return layout.empty((-(-x.size // CHUNK),), np.float64, x)


def _check(**vectors):
    vectors = {name: check_array(name, vector, 1) for name, vector in vectors.items()}
    for name, vector in vectors.items():
        check_shape(name, vector, vectors["w"].shape)
        flags = vector.flags
        if not flags.c_contiguous or not flags.aligned or (name != "dw" and not flags.writeable):
            raise ValueError(f"{name} is read-only or has gaps (strides {vector.strides}); expected a "
                             "contiguous vector that may be written to")
    check_same_dtype(**vectors)
    return vectors.values()
