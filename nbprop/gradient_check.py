"""Check gradients: by central differences, and a linear map's adjoint by its inner products."""

import copy
from typing import NamedTuple

import numpy as np

from nbprop.nn.parameter import Parameter, Vectors, flatten
from nbprop.nn.walk import walk

__all__ = ["Worst", "adjoint_check", "adjoint_errors", "gradcheck", "in_float64"]


class Worst(NamedTuple):
    """The entry of a gradient that differs most from central differences.

    `error` is |analytic - numeric| over the largest |numeric| (at least 1) of its array; `name` is "input" or
    a parameter's dotted name, with the class of its layer in `layer`.
    """

    error: float
    layer: str
    name: str
    index: tuple
    analytic: float
    numeric: float


def gradcheck(layer_or_model, x, tolerance=1e-6, step=1e-6, entries=100, seed=0):
    """Compare backward with central differences of sum(forward(x) * dy), in float64, for a random dy.

    Works on a float64 copy: the model keeps its parameters, gradients and buffers. Put a model with
    dropout in eval mode. Choose x away from kinks: a step across one makes the differences wrong. (Entries
    that disagree are measured again with a smaller step, which crosses fewer.)

    Parameters
    ----------
    layer_or_model : Module
    x : array
    tolerance : float
        Largest accepted error, see `Worst`.
    step : float
        Of the central differences.
    entries : int or None
        How many entries of each array to check, drawn at random; None for all.
    seed : int

    Returns
    -------
    Worst

    Raises
    ------
    ValueError
        If an error exceeds the tolerance: names layer, parameter and index of the worst entry.
    """
    model = in_float64(layer_or_model)
    x = np.array(x, np.float64)
    rng = np.random.default_rng(seed)
    y = model(x)
    if not np.array_equal(y, model(x), equal_nan=True):
        raise ValueError("layer_or_model gives two outputs for one input; expected the same: call eval()")
    dy = rng.standard_normal(y.shape)
    model.forward(x)
    arrays = [("input", type(model).__name__, x, np.array(model.backward(dy)))]
    layers = _layer_of_each_parameter(model)
    arrays += [(name, layers[id(p)], p.data, p.grad.copy()) for name, p in model.named_parameters()]
    worst = Worst(-1.0, "", "", (), 0.0, 0.0)
    for name, layer, array, analytic in arrays:
        if array.size:
            found = _worst(lambda: float(np.sum(model.forward(x) * dy)), array, analytic, tolerance, step,
                           entries, rng)  # fmt: skip
            if not found[0] <= worst.error:
                worst = Worst(found[0], layer, name, *found[1:])
    if not worst.error <= tolerance:
        raise ValueError(f"{worst.layer}: the gradient by {worst.name} at {worst.index} is "
                         f"{worst.analytic:.9g}; central differences give {worst.numeric:.9g} "
                         f"(error {worst.error:.1e})")
    return worst


def adjoint_check(forward, backward, x, dy, tolerance=1e-10):
    """Check that `backward` is the adjoint of the linear map `forward`: <forward(x), dy> = <x, backward(dy)>.

    Parameters
    ----------
    forward, backward : function
    x, dy : array
        Of the shapes that they take; random ones, at full size.
    tolerance : float
        Largest accepted difference, relative to |forward(x)| |dy|.

    Returns
    -------
    float
        The relative difference.

    Raises
    ------
    ValueError
        If it exceeds the tolerance, or shapes do not fit.
    """
    y, dx = forward(x), backward(dy)
    if y.shape != dy.shape or dx.shape != x.shape:
        raise ValueError(f"forward maps {x.shape} to {y.shape} and backward {dy.shape} to {dx.shape}; "
                         "expected the same shapes back")
    left, right = _inner(y, dy), _inner(x, dx)
    size = float(np.sqrt(_inner(y, y)) * np.sqrt(_inner(dy, dy)))
    error = abs(left - right) / max(size, np.finfo(np.float64).tiny)
    if not error <= tolerance:
        raise ValueError(f"<forward(x), dy> is {left:.9g} and <x, backward(dy)> is {right:.9g} (relative "
                         f"difference {error:.1e}); expected the same: backward is not forward's adjoint")
    return error


def adjoint_errors(model, x, seed=0, tolerance=1e-10):
    """Check the adjoint of every layer of a model that is linear up to a constant, on inputs as x gives it.

    Works on a float64 copy in eval mode. Which layers are linear is seen from their outputs: f(x + z) - f(x)
    equals f(z) - f(0).

    Parameters
    ----------
    model : Module
    x : array
    seed : int
    tolerance : float
        As in `adjoint_check`.

    Yields
    ------
    (dotted name, layer, relative difference)

    Raises
    ------
    ValueError
        If a difference exceeds the tolerance, by the layer's name.
    """
    model, rng = in_float64(model).eval(), np.random.default_rng(seed)
    walked = list(walk(model, np.array(x, np.float64)))
    for name, layer, x in [(name, layer, np.array(xs[0])) for name, layer, xs, _ in walked if len(xs) == 1]:
        try:
            error = _adjoint_error(layer, x, rng, tolerance)
        except ValueError as e:
            raise ValueError(f"{name} {type(layer).__name__}: {e}") from None
        if error is not None:
            yield name, layer, error


def _adjoint_error(layer, x, rng, tolerance):
    """Return the relative difference, or None if the layer is not linear up to a constant."""
    constant, z = layer(np.zeros_like(x)), rng.standard_normal(x.shape)

    def linear(x):
        return layer(x) - constant

    expected = linear(x) + linear(z)
    if not np.allclose(linear(x + z), expected, rtol=0, atol=1e-9 * max(1.0, np.max(np.abs(expected)))):
        return None
    return adjoint_check(linear, layer.backward, z, rng.standard_normal(constant.shape), tolerance)


def _inner(a, b):
    return float(np.sum(np.multiply(a, b, dtype=np.float64)))


def in_float64(module):
    """Return a float64 copy that shares nothing with `module`."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name in part.state:
            value = getattr(part, name)
            if np.asarray(value).dtype.kind == "f":
                setattr(part, name, np.asarray(value, np.float64))
    parameters = list(module.parameters())
    for p in parameters:
        values, p.dtype = p.data, np.dtype(np.float64)
        p.settle(Vectors(np.zeros(p.size), np.zeros(p.size)))
        p.data[...] = values
    if parameters:
        flatten(parameters)
    return module


def _layer_of_each_parameter(model):
    return {id(p): type(part).__name__ for part in model.modules() for p in vars(part).values()
            if isinstance(p, Parameter)}  # fmt: skip


def _worst(value, array, analytic, tolerance, step, entries, rng):
    """Return (error, index, analytic, numeric) of the worst entry of one array."""
    chosen = np.arange(array.size)
    if entries is not None and entries < array.size:
        chosen = np.sort(rng.choice(array.size, entries, replace=False))
    indices = [tuple(map(int, np.unravel_index(i, array.shape))) for i in chosen]
    numeric = np.array([_difference(value, array, index, step) for index in indices])
    got = np.array([analytic[index] for index in indices])
    scale = max(1.0, np.max(np.abs(numeric)))
    errors = np.abs(got - numeric) / scale
    for i in np.flatnonzero(errors > tolerance):
        # Perhaps the step went across a kink: a wrong gradient disagrees with a smaller step as well.
        closer = _difference(value, array, indices[i], step / 32)
        if abs(got[i] - closer) / scale < errors[i]:
            numeric[i], errors[i] = closer, abs(got[i] - closer) / scale
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    return float(errors[worst]), indices[worst], float(got[worst]), float(numeric[worst])


def _difference(value, array, index, step):
    kept = array[index]
    array[index] = kept + step
    high = value()
    array[index] = kept - step
    low = value()
    array[index] = kept
    return (high - low) / (2 * step)
