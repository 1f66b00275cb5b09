"""Optimiser updates of ten million parameters."""

import numpy as np

from nbprop.bench import suite
from nbprop.ops.update import adam_update, sgd_momentum_update

SHAPES = suite.memory_bound_shapes()


def draw(name, count):
    rng = np.random.default_rng(0)
    return [rng.random(SHAPES[name], np.float32) for _ in range(count)]


class Update:
    def setup(self):
        self.momentum, self.adam = draw("sgd_momentum", 3), draw("adam", 4)
        self.time_sgd_momentum()
        self.time_adam()

    def time_sgd_momentum(self):
        sgd_momentum_update(*self.momentum, lr=1e-6, momentum=0.9)

    def time_adam(self):
        lr, beta1, beta2, eps, weight_decay = 1e-6, 0.9, 0.999, 1e-8, 0.0
        adam_update(*self.adam, lr, beta1, beta2, eps, weight_decay, decoupled=False, step=9)
