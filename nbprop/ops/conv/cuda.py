"""Convolution on the GPU: each pass is one dense correlation (or one per stride phase) over channels-last memory."""


import numpy as np

from nbprop import gpu, layout
from nbprop.ops import cuda_correlate, cuda_lanewise, cuda_outer
from nbprop.ops.conv import plan

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return the memory of the weight gradient's parts, allocated when it is first computed."""
    return gpu.Scratch(dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    x, y, w = layout.nhwc(x).reshape(-1), layout.nhwc(y).reshape(-1), layout.khwio(w).reshape(-1)
    p = plan.forward(g)
    _form(p).correlate(x, w, b, y, p, floor(x.dtype, relu))


def backward_input(dy, w, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride."""
    adjoint(dy, w, None, dx, g, False)


def adjoint(dy, w, b, dx, g, relu):
    """Fill dx = b + the input gradient, or its positive part: a transposed convolution's forward pass."""
    dy, dx, w = layout.nhwc(dy).reshape(-1), layout.nhwc(dx).reshape(-1), layout.khwio(w).reshape(-1)
    for p, (KH0, KHS, _, KW0, KWS, _) in plan.phases(g):
        taps = cuda_correlate.Taps(KH0, KHS, KW0, KWS, g.KW, g.C // g.G)
        _form(p).correlate(dy, w, b, dx, p, floor(dy.dtype, relu), taps)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    dy, x, dw = layout.nhwc(dy).reshape(-1), layout.nhwc(x).reshape(-1), layout.khwio(dw).reshape(-1)
    p = plan.forward(g)
    (cuda_lanewise if p.LANEWISE else cuda_outer).outer(x, dy, dw, db, p, work)


def _form(p):
    return cuda_lanewise if p.LANEWISE else cuda_correlate


def floor(dtype, relu):
    """Return what a product's results are raised to at least: 0 for a ReLU, else minus infinity."""
    return dtype.type(0 if relu else -np.inf)
