"""Convolution on the GPU: each pass is one dense correlation (or one per stride phase) over channels-last memory."""


from nbprop import gpu
from nbprop.ops import cuda_correlate, cuda_lanewise, cuda_outer
from nbprop.ops.conv import plan
from nbprop.ops.conv.cuda_adjoint import adjoint, floor
from nbprop.ops.cuda_gate import gate

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def workspace(g, dtype):
    """Return the memory of the weight gradient's parts, allocated when it is first computed."""
    return gpu.Scratch(dtype)


def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    x, y, w = x.run, y.run, w.run
    p = plan.forward(g)
    (cuda_lanewise if p.LANEWISE else cuda_correlate).correlate(x, w, b, y, p, floor(x.dtype, relu))


def backward_input(dy, w, x, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride.

    If x is the output of a ReLU, and not None, its backward pass is done too.
    """
    adjoint(dy, w, None, dx, g, False)
    gate(dx, x)


def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    dy, x, dw = dy.run, x.run, dw.run
    p = plan.forward(g)
    (cuda_lanewise if p.LANEWISE else cuda_outer).outer(x, dy, dw, db, p, work)
