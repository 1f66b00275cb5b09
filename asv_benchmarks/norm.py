"""Norms on the suite's memory-bound rows: layers in training, with the buffers that they keep."""

import numpy as np

from nbprop import layout, nn
from nbprop.bench import suite

SHAPES = suite.memory_bound_shapes()
LAYERS = {
    "batch_norm": (nn.BatchNorm2d, SHAPES["batch_norm"]),
    "instance_norm": (nn.InstanceNorm2d, SHAPES["instance_norm"]),
    "group_norm": (lambda C: nn.GroupNorm(C // 8, C), SHAPES["batch_norm"]),
}


class Norm:
    params = (list(LAYERS),)
    param_names = ("layer",)

    def setup(self, name):
        make, shape = LAYERS[name]
        rng = np.random.default_rng(0)
        self.x, self.dy = map(layout.channels_last, rng.standard_normal((2, *shape), np.float32))
        self.layer = make(shape[1])
        self.time_forward(name)
        self.time_backward(name)

    def time_forward(self, name):
        self.layer.forward(self.x)

    def time_backward(self, name):
        self.layer.backward(self.dy)
