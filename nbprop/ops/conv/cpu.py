"""Convolution on the CPU: passes over channels-last memory, settled for a geometry, then run as often as wanted."""

import functools

import numpy as np

from nbprop import scratch
from nbprop.ops.conv import settle
from nbprop.ops.conv.workspace import Workspace
from nbprop.ops.flat import flat, flat_or_none
from nbprop.tape import launches

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


@scratch.kept
def workspace(g, dtype):
    """Return what the three passes of a geometry have beside their arrays; each Python thread has its own."""
    return Workspace(g, np.dtype(dtype))


@launches
def forward(x, w, b, y, g, relu, work):
    """Fill y = x * w + b, or its positive part."""
    work.run_with(w, b, settle.forward, relu, flat(x), flat(y))


@launches
def backward_input(dy, w, x, dx, g, work):
    """Fill dx: dy correlated with the rotated weights, channels exchanged, phase by phase of the stride.

    If x is the output of a ReLU, and not None, its backward pass is done too.
    """
    work.run_with(w, _no_bias(g.C, dy.dtype), settle.adjoint, False, flat(dy), flat(dx), flat_or_none(x))


@functools.lru_cache(maxsize=512)
def _no_bias(channels, dtype):
    """Return zeros that every call shares: a training step allocates nothing."""
    return np.zeros(channels, dtype)


@launches
def backward_weight(dy, x, dw, db, g, work):
    """Fill dw and db."""
    work.run(settle.weight, False, flat(x), flat(dy), flat(dw), db)
