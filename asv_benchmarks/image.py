"""Total variation and the Gram matrix on the suite's memory-bound rows, and resizing."""

import numpy as np

from nbprop import layout, nn
from nbprop.bench import suite

SHAPES = suite.memory_bound_shapes()


def draw(shape):
    return layout.channels_last(np.random.default_rng(0).standard_normal(shape, np.float32))


class TotalVariation:
    """Value and gradient, which one pass computes."""

    def setup(self):
        self.loss, self.x = nn.TotalVariationLoss(), draw(SHAPES["tv"])
        self.time_value_and_gradient()

    def time_value_and_gradient(self):
        self.loss.forward(self.x)
        self.loss.backward()


class Layer:
    """A layer's two passes on one shape."""

    def start(self, layer, shape):
        self.layer, self.x = layer, draw(shape)
        self.dy = layer(self.x)
        self.time_backward()

    def time_forward(self):
        self.layer.forward(self.x)

    def time_backward(self):
        self.layer.backward(self.dy)


class Gram(Layer):
    def setup(self):
        self.start(nn.GramMatrix(), SHAPES["gram"])


class Bilinear(Layer):
    def setup(self):
        self.start(nn.Upsample(scale_factor=2, mode="bilinear"), (8, 64, 56, 56))


class Nearest(Layer):
    def setup(self):
        self.start(nn.Upsample(scale_factor=2), (8, 64, 56, 56))


class Reflection(Layer):
    def setup(self):
        self.start(nn.ReflectionPad2d(3), (8, 64, 56, 56))
