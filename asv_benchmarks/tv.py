"""Total variation on the suite's memory-bound row."""

import numpy as np

from nbprop import layout, nn
from nbprop.bench import suite

SHAPE = suite.memory_bound_shapes()["tv"]


class TotalVariation:
    """Value and gradient, which one pass computes."""

    params = ([False, True],)
    param_names = ("anisotropic",)

    def setup(self, anisotropic):
        self.x = layout.channels_last(np.random.default_rng(0).standard_normal(SHAPE, np.float32))
        self.loss = nn.TotalVariationLoss(anisotropic)
        self.time_value_and_gradient(anisotropic)

    def time_value_and_gradient(self, anisotropic):
        self.loss.forward(self.x)
        self.loss.backward()
