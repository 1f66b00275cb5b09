"""Activation layers: torch.nn's, Caffe's Abs and Power, and those that users make with `activation`."""

import functools
from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module, Parameter
from nbprop.ops import activation as op
from nbprop.repeat import Repeated
from nbprop.shapes import check_same_dtype, integer

__all__ = [
    "ELU",
    "GELU",
    "Abs",
    "Activation",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LearnedActivation",
    "PReLU",
    "Power",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "activation",
]


def activation(value, slope, parameters=None, parameter_slopes=(), of_output=False):
    """Make an activation of your own from its value and its slope; returns what makes its layers.

        Swish = nbprop.activation(
            lambda x, beta: x * sigmoid(beta * x),
            lambda x, beta: sigmoid(beta * x) * (1 + beta * x * (1 - sigmoid(beta * x))),
            {"beta": 1.0},
        )
        model = Sequential(Linear(4, 8), Swish(), Linear(8, 8), Swish(beta=2.0))

    with ``from nbprop.ops.vecmath import sigmoid``. The functions are compiled once in each process.

    Parameters
    ----------
    value, slope : function
        f(x, *parameters) and df/dx(x, *parameters): scalar Python, see `nbprop.ops.activation.Pair`.
    parameters : dict
        Name and default of each further argument.
    parameter_slopes : tuple of function
        df/dtheta(x, *parameters) for each parameter: they are then learned, start from their defaults, and
        layers take `num_parameters` (1, or the number of channels) and `dtype`.
    of_output : bool
        The slope is written in y = f(x) instead of x.

    Raises
    ------
    ValueError
        If a slope disagrees with central differences of the value, away from kinks.

    Source
    ------
    Seed 000, equations 1 to 3.
    """
    pair = op.Pair(value, slope, parameters, parameter_slopes, of_output)
    pair.check()
    return functools.partial(LearnedActivation if pair.parameter_slopes else Activation, pair)


class Activation(Module):
    """y = f(x), dx = dy f'(x) for every element (seed 000, equations 1 and 2).

    Parameters
    ----------
    pair : nbprop.ops.activation.Pair
    **parameters : float
        Values for the pair's parameters, by name.
    """

    def __init__(self, pair, **parameters):
        unknown = set(parameters) - set(pair.parameters)
        if unknown:
            raise TypeError(f"{pair.name} got {sorted(unknown)}; expected any of {list(pair.parameters)}")
        self.pair = pair
        self.parameter_values = tuple({**pair.parameters, **parameters}.values())

    def allocate(self, shape, dtype):
        numbers = op.numbers(self.pair, self.parameter_values, dtype)
        first = self.pair, numbers
        return SimpleNamespace(
            forward=Repeated("activation", "activation_forward", first),
            backward=Repeated("activation", "activation_backward", first),
            y=layout.empty(shape, dtype), dx=Lent(shape, dtype),
        )  # fmt: skip

    @looks_not
    def forward(self, x):
        x, p = self.enter(x)
        p.forward.run(x, p.y)
        self._last = (p, p.y if self.pair.of_output else x)
        return p.y

    @looks_not
    def backward(self, dy, input_gradient=True):
        p, s = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dx = p.dx.take()
        p.backward.run(s, dy, dx)
        return dx


class LearnedActivation(Module):
    """An activation whose parameters are learned: dtheta = sum of dy df/dtheta (seed 000, equation 3).

    Parameters
    ----------
    pair : nbprop.ops.activation.Pair
        With parameter_slopes; each parameter becomes a Parameter of that name.
    num_parameters : int
        1 for one value for all channels, or the number of channels.
    dtype : dtype
    **initial : float
        Initial values, by name.
    """

    def __init__(self, pair, num_parameters=1, dtype=np.float32, **initial):
        unknown = set(initial) - set(pair.parameters)
        if unknown:
            raise TypeError(f"{pair.name} got {sorted(unknown)}; expected any of {list(pair.parameters)}")
        self.pair = pair
        self.num_parameters = integer("num_parameters", num_parameters, 1)
        for name, value in {**pair.parameters, **initial}.items():
            setattr(self, name, Parameter(np.full(self.num_parameters, value, dtype)))

    def allocate(self, shape, dtype):
        if len(shape) not in (2, 4):
            raise ValueError(f"x has shape {shape}; expected (N, features) or (N, C, H, W)")
        if self.num_parameters not in (1, shape[1]):
            raise ValueError(f"x has {shape[1]} channels (shape {shape}); expected {self.num_parameters}, "
                             "the layer's num_parameters")
        count = len(self.pair.parameters)
        return SimpleNamespace(
            theta=layout.empty((count, shape[1]), dtype), partial=None,
            y=layout.empty(shape, dtype), dx=Lent(shape, dtype),
        )  # fmt: skip

    def forward(self, x):
        x, p = self.enter(x)
        for row, (name, parameter) in zip(p.theta, self.named_parameters()):
            check_same_dtype(x=x, **{name: parameter.data})
            row[...] = parameter.data
        backend.twin("activation", x).learned_forward(self.pair, p.theta, x, p.y)
        self._last = (p, x)
        return p.y

    def backward(self, dy, input_gradient=True):
        p, x = self._last
        dy = self.receive(dy, p.y)
        twin = backend.twin("activation", dy)
        if p.partial is None:
            p.partial = op.partial_sums(x, len(p.theta))
        twin.learned_backward_parameters(self.pair, p.theta, x, dy, p.partial)
        for row, parameter in zip(p.partial, self.parameters()):
            twin.learned_gradient(row, parameter.grad)
        if not input_gradient:
            return None
        dx = p.dx.take()
        twin.learned_backward_input(self.pair, p.theta, p.y if self.pair.of_output else x, dy, dx)
        return dx


class ReLU(Activation):
    """max(0, x) (seed 000, equations 4 to 6); backward needs only the sign of y.

    Parameters
    ----------
    inplace : bool
        Not supported; False.
    grad_at_zero : float
        The slope at exactly 0: 0 as in torch and seeds 001 and 004, 1 as in seed 000.
    """

    def __init__(self, inplace=False, *, grad_at_zero=0.0):
        _not_inplace(inplace)
        if grad_at_zero == 0:
            super().__init__(op.RELU)
        else:
            super().__init__(op.RELU_AT_ZERO, grad_at_zero=grad_at_zero)

    @property
    def adopts(self):
        """Whether backward reads only the output, so that the layer in front may make it."""
        return self.pair is op.RELU

    def adopt(self, y):
        """Take over `y`, which is max(0, x) already, as this layer's output."""
        last = vars(self).get("_last")
        if last is None or last[1] is not y:  # else it is the buffer that was taken over at the last call
            p = self.plan(y)
            p.y = y
            self._last = (p, y)
        return y


class LeakyReLU(Activation):
    """x where positive, else negative_slope x.

    Parameters
    ----------
    negative_slope : float
    inplace : bool
        Not supported; False.
    """

    def __init__(self, negative_slope=0.01, inplace=False):
        _not_inplace(inplace)
        super().__init__(op.LEAKY_RELU, negative_slope=negative_slope)


class PReLU(LearnedActivation):
    """x where positive, else weight x; dweight = sum of dy x over x <= 0 (seed 000, equation 3).

    Parameters
    ----------
    num_parameters : int
        1, or the number of channels.
    init : float
        Initial weight.
    dtype : dtype
    """

    def __init__(self, num_parameters=1, init=0.25, dtype=np.float32):
        super().__init__(op.PRELU, num_parameters, dtype, weight=init)


class Sigmoid(Activation):
    """1 / (1 + e^-x)."""

    def __init__(self):
        super().__init__(op.SIGMOID)


class Tanh(Activation):
    """Hyperbolic tangent."""

    def __init__(self):
        super().__init__(op.TANH)


class Abs(Activation):
    """|x|, with slope 0 at 0."""

    def __init__(self):
        super().__init__(op.ABS)


class Power(Activation):
    """(shift + scale x)^power, as Caffe's layer.

    Parameters
    ----------
    power, scale, shift : float
    """

    def __init__(self, power=1.0, scale=1.0, shift=0.0):
        super().__init__(op.POWER, power=power, scale=scale, shift=shift)


class Hardtanh(Activation):
    """x between min_val and max_val, else the nearer of the two (seed 001).

    Parameters
    ----------
    min_val, max_val : float
    inplace : bool
        Not supported; False.
    """

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        _not_inplace(inplace)
        if not min_val < max_val:
            raise ValueError(f"min_val is {min_val} and max_val {max_val}; expected min_val below max_val")
        super().__init__(op.HARDTANH, min_val=min_val, max_val=max_val)


class ELU(Activation):
    """x where positive, else alpha (e^x - 1).

    Parameters
    ----------
    alpha : float
        At least 0.
    inplace : bool
        Not supported; False.
    """

    def __init__(self, alpha=1.0, inplace=False):
        _not_inplace(inplace)
        if not alpha >= 0:
            raise ValueError(f"alpha is {alpha}; expected at least 0, so that y has the sign of x")
        super().__init__(op.ELU, alpha=alpha)


class SiLU(Activation):
    """x / (1 + e^-x).

    Parameters
    ----------
    inplace : bool
        Not supported; False.
    """

    def __init__(self, inplace=False):
        _not_inplace(inplace)
        super().__init__(op.SILU)


class GELU(Activation):
    """x Phi(x), with the normal distribution Phi, or its approximation by tanh.

    Parameters
    ----------
    approximate : str
        "none" or "tanh".
    """

    def __init__(self, approximate="none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate is {approximate!r}; expected "none" or "tanh"')
        super().__init__(op.GELU if approximate == "none" else op.GELU_TANH)


class Softplus(Activation):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold.

    Parameters
    ----------
    beta, threshold : float
    """

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__(op.SOFTPLUS, beta=beta, threshold=threshold)


class Hardsigmoid(Activation):
    """(x + 3) / 6 between 0 and 1.

    Parameters
    ----------
    inplace : bool
        Not supported; False.
    """

    def __init__(self, inplace=False):
        _not_inplace(inplace)
        super().__init__(op.HARDSIGMOID)


class Hardswish(Activation):
    """x Hardsigmoid(x).

    Parameters
    ----------
    inplace : bool
        Not supported; False.
    """

    def __init__(self, inplace=False):
        _not_inplace(inplace)
        super().__init__(op.HARDSWISH)


def _not_inplace(inplace):
    if inplace:
        raise ValueError(f"inplace is {inplace!r}; expected False, as layers never write to their input")
