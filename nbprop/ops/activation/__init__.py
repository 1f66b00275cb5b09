"""Element-wise activations: each a pair of scalar formulas, all through the same few kernels."""

import numpy as np

from nbprop import backend, layout
from nbprop.ops.activation import theta as _theta
from nbprop.ops.activation.exponentials import ELU, GELU, GELU_TANH, SIGMOID, SILU, SOFTPLUS, TANH
from nbprop.ops.activation.pair import Pair
from nbprop.ops.activation.power import POWER
from nbprop.ops.activation.rectifiers import (
    ABS,
    HARDSIGMOID,
    HARDSWISH,
    HARDTANH,
    LEAKY_RELU,
    PRELU,
    RELU,
    RELU_AT_ZERO,
)
from nbprop.shapes import check_array, check_same_dtype, check_shape

__all__ = [
    "ABS",
    "ELU",
    "GELU",
    "GELU_TANH",
    "HARDSIGMOID",
    "HARDSWISH",
    "HARDTANH",
    "LEAKY_RELU",
    "POWER",
    "PRELU",
    "RELU",
    "RELU_AT_ZERO",
    "SIGMOID",
    "SILU",
    "SOFTPLUS",
    "TANH",
    "Pair",
    "activation_backward",
    "activation_forward",
    "learned_backward_input",
    "learned_backward_parameters",
    "learned_forward",
]

MOST_PARAMETERS = _theta.MOST
_CHUNK, _CHUNKS = 1 << 14, 64  # elements of one partial sum, most sums: fixed, whatever the threads


def activation_forward(pair, x, *parameters):
    """Element-wise value: y = f(x, *parameters).

    Parameters
    ----------
    pair : Pair
        RELU, TANH, ... or one of your own.
    x : array, float32 or float64
        Of any shape.
    *parameters : float
        In the order of `pair.parameters`; left out, its defaults.

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    ValueError
        For another dtype, or a wrong number of parameters.

    Source
    ------
    Seed 000, equation 1.
    """
    x = check_array("x", x)
    x = layout.channels_last(x)
    y = layout.empty_like(x)
    backend.twin("activation", x).activation_forward(pair, numbers(pair, parameters, x.dtype), x, y)
    return y


def activation_backward(pair, s, dy, *parameters):
    """Element-wise product with the slope: dx = dy f'(x, *parameters).

    Parameters
    ----------
    pair : Pair
        As in forward.
    s : array, float32 or float64
        What the slope is written in: y if `pair.of_output` (as for RELU, SIGMOID, TANH), else x.
    dy : array of s's shape and dtype
        The loss's gradient by y.
    *parameters : float
        As in forward.

    Returns
    -------
    dx : array of s's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes differ, or for a wrong number of parameters.

    Source
    ------
    Seed 000, equation 2.
    """
    s = check_array("s", s)
    dy = check_array("dy", dy)
    check_shape("dy", dy, s.shape)
    check_same_dtype(s=s, dy=dy)
    s, dy = layout.channels_last(s), layout.channels_last(dy)
    dx = layout.empty_like(s)
    backend.twin("activation", s).activation_backward(pair, numbers(pair, parameters, s.dtype), s, dy, dx)
    return dx


def learned_forward(pair, x, theta):
    """Element-wise value, each channel with parameters of its own: y = f(x, theta[0, c], theta[1, c], ...).

    Parameters
    ----------
    pair : Pair
        One with parameter_slopes, such as PRELU.
    x : array (N, C) or (N, C, H, W), float32 or float64
    theta : array (parameters, C)

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.

    Source
    ------
    Seed 000, equation 1.
    """
    x, theta = _checked(pair, theta, x=x)
    y = layout.empty_like(x)
    backend.twin("activation", x).learned_forward(pair, theta, x, y)
    return y


def learned_backward_input(pair, s, dy, theta):
    """Element-wise product with the slope at each channel's parameters: dx = dy f'(x, theta[:, c]).

    Parameters
    ----------
    pair : Pair
        One with parameter_slopes, such as PRELU.
    s : array (N, C) or (N, C, H, W), float32 or float64
        What the slope is written in: y if `pair.of_output`, else x.
    dy : array of s's shape and dtype
    theta : array (parameters, C)

    Returns
    -------
    dx : array of s's shape and dtype

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.

    Source
    ------
    Seed 000, equation 2.
    """
    s, dy, theta = _checked(pair, theta, s=s, dy=dy)
    dx = layout.empty_like(s)
    backend.twin("activation", s).learned_backward_input(pair, theta, s, dy, dx)
    return dx


def learned_backward_parameters(pair, x, dy, theta):
    """Gradient by the parameters: dtheta[i, c] = sum over samples, pixels of dy df/dtheta_i(x, theta[:, c]).

    Parameters
    ----------
    pair : Pair
        One with parameter_slopes, such as PRELU.
    x, dy : array (N, C) or (N, C, H, W), float32 or float64
    theta : array (parameters, C)

    Returns
    -------
    dtheta : array (parameters, C)

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.

    Source
    ------
    Seed 000, equation 3, added up over all elements that share the parameter.
    """
    x, dy, theta = _checked(pair, theta, x=x, dy=dy)
    partial, dtheta = partial_sums(x, len(theta)), layout.empty_like(theta)
    twin = backend.twin("activation", x)
    twin.learned_backward_parameters(pair, theta, x, dy, partial)
    for i in range(len(theta)):
        twin.learned_gradient(partial[i], dtheta[i])
    return dtheta


def numbers(pair, parameters, dtype):
    """Return a pair's parameters as numbers of `dtype`, so that kernels stay in it."""
    if parameters and len(parameters) != len(pair.parameters):
        raise ValueError(f"{len(parameters)} parameters came; expected {list(pair.parameters)}")
    return tuple(dtype.type(p) for p in parameters or pair.parameters.values())


def partial_sums(x, parameters):
    """Allocate the partial sums of the parameters' gradients for an input like `x`."""
    chunks = min(max(x.size // _CHUNK, 1), _CHUNKS)
    return layout.empty((parameters, chunks, x.shape[1]), np.float64, x)


def _checked(pair, theta, **arrays):
    if not pair.parameter_slopes:
        raise ValueError(f"pair is {pair.name}, which has no parameter_slopes; expected one that has")
    arrays = {name: check_array(name, array, (2, 4)) for name, array in arrays.items()}
    first = next(iter(arrays.values()))
    for name, array in arrays.items():
        check_shape(name, array, first.shape)
    theta = check_array("theta", theta, 2)
    check_shape("theta", theta, (len(pair.parameters), first.shape[1]))
    check_same_dtype(theta=theta, **arrays)
    return *map(layout.channels_last, arrays.values()), layout.contiguous(theta)
