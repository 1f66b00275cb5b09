"""The linear layers of the suite's nets: y = x W^T + b and its gradients."""

import numpy as np

from nbprop.bench import clock, suite
from nbprop.ops.linear import linear_backward_input, linear_backward_weight, linear_forward

ROWS = suite.linear_rows()


class Linear:
    params = (list(ROWS), list(suite.PASSES))
    param_names = ("layer", "pass")

    def setup(self, name, pass_):
        n, k, o = ROWS[name]
        rng = np.random.default_rng(0)
        x, w, b, dy = (rng.standard_normal(shape, np.float32) for shape in ((n, k), (o, k), o, (n, o)))
        self.run = {
            "forward": lambda: linear_forward(x, w, b),
            "backward_input": lambda: linear_backward_input(dy, w),
            "backward_weight": lambda: linear_backward_weight(dy, x),
        }[pass_]
        self.run()

    def time_pass(self, name, pass_):
        self.run()

    def track_gflops(self, name, pass_):
        n, k, o = ROWS[name]
        return 2 * n * k * o / clock.median(self.run) / 1e9

    track_gflops.unit = "GFLOP/s"
