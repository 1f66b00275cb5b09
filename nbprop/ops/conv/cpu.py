"""Convolution on the CPU: passes over channels-last memory, settled for a geometry, then run as often as wanted."""

import functools

import numpy as np

from nbprop import scratch
from nbprop.ops.conv import settle
from nbprop.ops.conv.workspace import Workspace
from nbprop.ops.flat import flat, flat_or_none, flat_weights
from nbprop.repeat import settles

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


@scratch.kept
def workspace(g, dtype):
    """Return what the three passes of a geometry have beside their arrays; each Python thread has its own."""
    return Workspace(g, np.dtype(dtype))


@settles
def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    return _launch(work, settle.forward, relu, flat(x), w, b, flat(y))


@settles
def backward_input(dy, w, x, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride.

    If x is the output of a ReLU, and not None, its backward pass is done too.
    """
    return _launch(work, settle.adjoint, False, flat(dy), w, _no_bias(g.C, dy.dtype), flat(dx), flat_or_none(x))


def _launch(work, settle, relu, x, w, *rest):
    """Return the call of a pass. Weights in another order than ours are copied, anew at every call of it."""
    weights = flat_weights(w)
    if np.may_share_memory(weights, w):
        return functools.partial(work.run, settle, relu, x, weights, *rest)
    return lambda: work.run(settle, relu, x, flat_weights(w), *rest)


@functools.lru_cache(maxsize=512)
def _no_bias(channels, dtype):
    """Return zeros that every call shares: a training step allocates nothing."""
    return np.zeros(channels, dtype)


@settles
def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    return functools.partial(work.run, settle.weight, False, flat(x), flat(dy), flat(dw), db)
