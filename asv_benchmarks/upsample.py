"""Resizing to twice the size."""

import numpy as np

from nbprop import layout, nn

SHAPES = {"64 channels": (8, 64, 56, 56), "3 channels": (8, 3, 224, 224)}


class Upsample:
    params = (list(SHAPES), ["nearest", "bilinear"])
    param_names = ("shape", "mode")

    def setup(self, shape, mode):
        rng = np.random.default_rng(0)
        self.layer = nn.Upsample(scale_factor=2, mode=mode)
        self.x = layout.channels_last(rng.standard_normal(SHAPES[shape], np.float32))
        self.dy = self.layer(self.x)
        self.time_backward(shape, mode)

    def time_forward(self, shape, mode):
        self.layer.forward(self.x)

    def time_backward(self, shape, mode):
        self.layer.backward(self.dy)
