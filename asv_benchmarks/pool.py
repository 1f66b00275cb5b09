"""Pooling on the suite's memory-bound rows."""

import numpy as np

from nbprop import layout
from nbprop.bench import suite
from nbprop.ops.avg_pool import avg_pool2d_backward, avg_pool2d_forward
from nbprop.ops.max_pool import max_pool2d_backward, max_pool2d_forward

SHAPES = suite.memory_bound_shapes()


def draw(shape):
    return layout.channels_last(np.random.default_rng(0).standard_normal(shape, np.float32))


class MaxPool:
    def setup(self):
        self.x = draw(SHAPES["maxpool"])
        y, self.indices = max_pool2d_forward(self.x, 2)
        self.dy = draw(y.shape)
        self.time_backward()

    def time_forward(self):
        max_pool2d_forward(self.x, 2)

    def time_backward(self):
        max_pool2d_backward(self.dy, self.indices, self.x.shape, 2)


class AvgPool:
    def setup(self):
        self.x = draw(SHAPES["avgpool"])
        self.dy = draw(avg_pool2d_forward(self.x, 2).shape)
        self.time_backward()

    def time_forward(self):
        avg_pool2d_forward(self.x, 2)

    def time_backward(self):
        avg_pool2d_backward(self.dy, self.x.shape, 2)
