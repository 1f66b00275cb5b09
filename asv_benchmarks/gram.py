"""Gram matrices on the suite's row."""

import numpy as np

from nbprop import layout, nn
from nbprop.bench import clock, ops, suite

SHAPE = suite.memory_bound_shapes()["gram"]


class Gram:
    def setup(self):
        rng = np.random.default_rng(0)
        self.layer, self.x = nn.GramMatrix(), layout.channels_last(rng.standard_normal(SHAPE, np.float32))
        self.dy = rng.standard_normal(self.layer(self.x).shape, np.float32)
        self.time_backward()

    def time_forward(self):
        self.layer.forward(self.x)

    def time_backward(self):
        self.layer.backward(self.dy)

    def track_gflops(self):
        """Of both passes, as `nbprop bench ops gram` counts them."""
        (contest,) = ops.contests("gram", SHAPE, None)
        return contest.flops / clock.median(contest.ours) / 1e9

    track_gflops.unit = "GFLOP/s"
