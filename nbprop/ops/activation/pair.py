"""An activation is its value and its slope, as scalar formulas; every kernel is made from them."""

import math

import numpy as np

from nbprop import jit

__all__ = ["Pair"]


class Pair:
    """y = f(x, *parameters) and dy/dx = f'(x, *parameters) (seed 000, equations 1 and 2).

    Parameters
    ----------
    value, slope : function
        Scalar Python that Numba compiles. Write ``a if condition else b`` for cases, take exp, log, tanh, ...
        from ``nbprop.ops.vecmath`` (they vectorise; those of ``math`` do not) and a number such as 0.1 as
        ``vecmath.constant(0.1, x)`` (a bare one turns float32 into float64, which is right but slower).
    parameters : dict
        Name and default of each number that all of these functions take after x.
    parameter_slopes : tuple of function
        df/dtheta(x, *parameters) for each parameter (equation 3), where they are learned.
    of_output : bool
        The slope is written in y = f(x) instead of x, so that a backward pass needs y alone.
    """

    def __init__(self, value, slope, parameters=None, parameter_slopes=(), of_output=False):
        self.name = getattr(value, "__name__", "activation")
        self.parameters = dict(parameters or {})
        self.of_output = bool(of_output)
        self.value, self.slope = _compiled(value), _compiled(slope)
        self.parameter_slopes = tuple(map(_compiled, parameter_slopes))
        if self.parameter_slopes and len(self.parameter_slopes) != len(self.parameters):
            raise ValueError(f"parameter_slopes has {len(self.parameter_slopes)} functions; expected one for "
                             f"each of the parameters {list(self.parameters)}")

    def __deepcopy__(self, memo):
        return self  # a copied layer runs the same kernels

    def check(self, *parameters):
        """Compare every slope with central differences of the value at points of [-4, 4], away from kinks.

        Raises
        ------
        ValueError
            With the worst point, if a slope disagrees there.
        """
        parameters = [np.float64(p) for p in parameters or self.parameters.values()]
        value, slope = self.value.py_func, self.slope.py_func

        def of(f, x):
            return f(value(x, *parameters) if self.of_output else x, *parameters)

        _compare("slope", lambda x: value(x, *parameters), lambda x: of(slope, x), _POINTS)
        for k, (name, f) in enumerate(zip(self.parameters, self.parameter_slopes)):
            for x in _POINTS:
                moved = [*parameters]

                def along(theta, x=x, k=k, moved=moved):
                    moved[k] = theta
                    return value(x, *moved)

                _compare(f"parameter_slopes[{k}] ({name}, at x = {x:.3f})", along,
                         lambda theta, x=x, f=f: f.py_func(x, *parameters), [parameters[k]])  # fmt: skip


# Irregular, so that no kink of a function made by hand sits on one of them, nor within a step of one.
_POINTS = 4 * np.sin(1.7 * np.arange(200) + 0.3)
_STEP = 1e-5


def _compare(name, value, slope, points):
    worst, text = 1e-6, None
    for x in points:
        try:
            with np.errstate(all="ignore"):
                low, here, high, got = value(x - _STEP), value(x), value(x + _STEP), slope(x)
        except (ValueError, ZeroDivisionError, OverflowError):
            continue  # outside of the function's domain
        if not math.isfinite(low + here + high):
            continue
        left, right, centre = (here - low) / _STEP, (high - here) / _STEP, (high - low) / (2 * _STEP)
        distance = abs(got - centre) / (1 + abs(centre))
        kink = abs(left - right) > 1e-2 * (1 + abs(centre))
        if not kink and not distance <= worst:
            worst = distance if distance == distance else math.inf
            text = f"{name} is {got:.6g} at {x:.6g}, where central differences of value give {centre:.6g}"
    if text:
        raise ValueError(f"{text}; expected the derivative of value")


def _compiled(function):
    return function if hasattr(function, "py_func") else jit.scalar(function)
