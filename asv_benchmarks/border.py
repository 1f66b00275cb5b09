"""Borders of one pixel around the suite's images, and taken away again."""

import numpy as np

from nbprop import layout, nn
from nbprop.bench import suite

SHAPE = suite.memory_bound_shapes()["instance_norm"]
LAYERS = {
    "zeros": nn.ZeroPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
    "crop": nn.Crop2d,
}


class Border:
    params = (list(LAYERS),)
    param_names = ("mode",)

    def setup(self, name):
        rng = np.random.default_rng(0)
        self.layer, self.x = LAYERS[name](1), layout.channels_last(rng.standard_normal(SHAPE, np.float32))
        self.dy = layout.channels_last(rng.standard_normal(self.layer(self.x).shape, np.float32))
        self.time_backward(name)

    def time_forward(self, name):
        self.layer.forward(self.x)

    def time_backward(self, name):
        self.layer.backward(self.dy)
