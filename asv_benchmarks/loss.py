"""Softmax cross entropy on the suite's memory-bound row."""

import numpy as np

from nbprop import nn
from nbprop.bench import suite

SHAPE = suite.memory_bound_shapes()["softmax_ce"]


class CrossEntropy:
    """Value and gradient, which one pass computes, as a training step asks for them."""

    def setup(self):
        rng = np.random.default_rng(0)
        self.loss, self.logits = nn.CrossEntropyLoss(), rng.standard_normal(SHAPE, np.float32)
        self.target = rng.integers(SHAPE[1], size=SHAPE[0])
        self.time_value_and_gradient()

    def time_value_and_gradient(self):
        self.loss.forward(self.logits, self.target)
        self.loss.backward()
