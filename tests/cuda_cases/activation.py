import numpy as np

from cuda_cases import a, given, public, twin
from nbprop.ops import activation
from nbprop.ops.activation import Pair

PAIRS = [v for v in vars(activation).values() if isinstance(v, Pair)]


def _numbers(pair):
    return tuple(float(v) for v in pair.parameters.values())


def _theta(dtype):
    return np.array([[0.25, -0.5, 0.1, 1.0, 2.0]], dtype)


CASES = [
    *(twin("activation", "activation_forward", p, _numbers(p), a(2, 3, 2, 3), a(2, 3, 2, 3)) for p in PAIRS),
    *(twin("activation", "activation_backward", p, _numbers(p), a(7), a(7), a(7)) for p in PAIRS),
    *(public("activation", "activation_forward", p, a(3, 5)) for p in (activation.RELU, activation.ELU)),
    public("activation", "activation_backward", activation.TANH, a(2, 3, 1, 2), a(2, 3, 1, 2)),
    public("activation", "learned_forward", activation.PRELU, a(2, 5, 2, 1), given(_theta)),
    public("activation", "learned_backward_input", activation.PRELU, a(3, 5), a(3, 5), given(_theta)),
    twin("activation", "learned_backward_parameters", activation.PRELU, given(_theta), a(2, 5, 2, 3), a(2, 5, 2, 3),
         a(1, 3, 5, dtype=np.float64), constants={"_CHANNELS": 2}),
    *(twin("activation", "learned_gradient", a(3, 5, dtype=np.float64), a(n)) for n in (1, 5)),
    public("activation", "learned_backward_parameters", activation.PRELU, a(4, 5), a(4, 5), given(_theta)),
]
