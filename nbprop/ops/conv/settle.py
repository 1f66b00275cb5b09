"""The three passes with all settled but their arrays: which algorithm, how cut, in what memory.

The first two take a fifth array where the input is a ReLU's output: see `correlate.settle`.

Each is one dense correlation (or one per stride phase), unless Winograd's algorithm or several columns at once serve.
"""

import functools

import numpy as np

from nbprop import jit
from nbprop.ops import correlate, lanewise_outer, outer, panels, pixels
from nbprop.ops.conv import choose, fast, plan, spread, wide

__all__ = ["adjoint", "forward", "weight"]


def forward(g, dtype, relu, memory, room):
    """Return the forward pass as a function of x, w, b and y (flat)."""
    least = _floor(dtype, relu)
    m = choose.winograd_tile("forward", g)
    if m:
        passes = fast.passes("forward", g, m, dtype, jit.threads())
        return fast.settle(passes, False, dtype, room, least)
    several = wide.forward(g, dtype, choose.exact())
    if several:
        return wide.settle(several, g.C, (g.KW * g.C * g.O, g.C * g.O, g.O, 1), dtype, memory, least)
    return correlate.settle(plan.forward(g), g.O, dtype, least, memory)


def adjoint(g, dtype, relu, memory, room):
    """Return the input gradient + b, or its positive part, as a function of dy, w, b and dx (flat).

    With a bias it is a transposed convolution's forward pass.
    """
    least = _floor(dtype, relu)
    m = choose.winograd_tile("input", g)
    if m:
        passes = fast.passes("input", g, m, dtype, jit.threads())
        return fast.settle(passes, True, dtype, room, least)
    columns = None if relu else spread.phases(g, dtype, choose.exact())
    if columns:
        return _one_by_one([spread.settle(each, g, dtype, memory) for each in columns])
    several = wide.phases(g, dtype, choose.exact())
    if several:
        steps = g.KW * g.C * g.O, g.C * g.O, 1, g.O
        return _one_by_one([wide.settle(each, g.O, steps, dtype, memory, least) for each in several])
    phases = plan.phases(g)
    runs = [_settle_phase(g, p, taps, dtype, least, memory) for p, taps in phases if p.KH]
    if len(runs) < len(phases):
        runs.insert(0, functools.partial(_fill, least))
    return _one_by_one(runs)


def _fill(least, dy, w, b, dx, gate=None):
    """Fill all phases as those without taps are, in one pass over memory: theirs are pixels strewn over it."""
    pixels.fill_pixels(b, least, dx)


def _one_by_one(phases):
    """Return the function that runs the phases: they share the memory of panels."""
    if len(phases) == 1:
        return phases[0]

    def run(*arrays):
        for phase in phases:
            phase(*arrays)

    return run


def _settle_phase(g, p, taps, dtype, least, memory):
    phase = np.array([g.KW, *taps])
    if not p.LANEWISE:
        return correlate.settle(p, 0, dtype, least, memory, phase)
    product = correlate.settle(p, p.C, dtype, least)

    def run(dy, w, b, dx, gate=None):
        panels.reverse_taps(w, memory, p.C, phase, 1)
        product(dy, memory, b, dx, gate)

    return run


def _floor(dtype, relu):
    """Return what a product's results are raised to at least: 0 for a ReLU, else minus infinity."""
    return dtype.type(0 if relu else -np.inf)


def weight(g, dtype, relu, sums, room):
    """Return the weight gradient as a function of x, dy, dw and db (flat); `relu` is nothing to it."""
    m = choose.winograd_tile("weight", g)
    if m:
        passes = fast.passes("weight", g, m, dtype, jit.threads())
        return fast.settle_gradient(passes, dtype, room)
    several = wide.forward(g, dtype, choose.exact())
    if several:
        return wide.settle_gradient(several, dtype, sums)
    p = plan.forward(g)
    return (lanewise_outer if p.LANEWISE else outer).settle(p, dtype, sums)
