"""Element-wise activations on the suite's memory-bound rows."""

import numpy as np

from nbprop import layout
from nbprop.bench import suite
from nbprop.ops.activation import RELU, TANH, activation_backward, activation_forward

PAIRS = {"relu": RELU, "tanh": TANH}
SHAPES = suite.memory_bound_shapes()


class Activation:
    params = (list(PAIRS),)
    param_names = ("function",)

    def setup(self, name):
        rng = np.random.default_rng(0)
        self.x, self.dy = map(layout.channels_last, rng.standard_normal((2, *SHAPES[name]), np.float32))
        self.y = activation_forward(PAIRS[name], self.x)  # both slopes are written in the output
        self.time_backward(name)

    def time_forward(self, name):
        activation_forward(PAIRS[name], self.x)

    def time_backward(self, name):
        activation_backward(PAIRS[name], self.y, self.dy)
