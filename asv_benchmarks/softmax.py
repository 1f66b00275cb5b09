"""Softmax and its logarithm: over the classes of the suite's row, and over the channels of images."""

import numpy as np

from nbprop import layout, nn
from nbprop.bench import suite

LAYERS = {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax}
SHAPES = {name: suite.memory_bound_shapes()[row] for name, row in {"rows": "softmax_ce", "images": "tanh"}.items()}


class Softmax:
    params = (list(LAYERS), list(SHAPES))
    param_names = ("function", "shape")

    def setup(self, name, shape):
        rng = np.random.default_rng(0)
        self.x, self.dy = map(layout.channels_last, rng.standard_normal((2, *SHAPES[shape]), np.float32))
        self.layer = LAYERS[name](1)
        self.time_forward(name, shape)
        self.time_backward(name, shape)

    def time_forward(self, name, shape):
        self.layer.forward(self.x)

    def time_backward(self, name, shape):
        self.layer.backward(self.dy)
