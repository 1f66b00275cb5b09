"""The adjoint of a convolution on the GPU: its input gradient, and a transposed convolution's forward pass."""

import numpy as np

from nbprop.ops import cuda_correlate, cuda_lanewise
from nbprop.ops.conv import plan

__all__ = ["adjoint", "floor"]


def adjoint(dy, w, b, dx, g, relu):
    """Fill dx = b + the input gradient, or its positive part: a transposed convolution's forward pass."""
    dy, dx, w = dy.run, dx.run, w.run
    for p, (KH0, KHS, _, KW0, KWS, _) in plan.phases(g):
        taps = cuda_correlate.Taps(KH0, KHS, KW0, KWS, g.KW, g.C // g.G)
        form = cuda_lanewise if p.LANEWISE else cuda_correlate
        form.correlate(dy, w, b, dx, p, floor(dy.dtype, relu), taps)


def floor(dtype, relu):
    """Return what a product's results are raised to at least: 0 for a ReLU, else minus infinity."""
    return dtype.type(0 if relu else -np.inf)
