"""Few output channels: several neighbouring output columns share the lanes of a vector.

An RGB image's gradient has three channels for sixteen lanes. But in channels-last memory the pixels of a row lie side
by side, so that Q columns of C channels are Q C numbers in a row, and a correlation with Q C output channels computes
them at once. Its kernel has the taps of all Q columns, those that one of them lacks as zeros:

    y[.., Q j + q, o] = sum over t of x[.., stride j + t - left, c] w'[.., t, c, (q, o)],   w' = w[.., kw(t, q), c, o]

forward with kw(t, q) = t - q SW, stride Q SW; for the input gradient, whose column Q j + q meets dy's column e where
q + PW - kw = SW e, with kw(t, q) = q + PW - SW (t - left), stride Q / SW: its stride phases merge as well.

As with every zero that is multiplied, NaN and infinity in x reach the columns beside them too.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import correlate, outer, simd
from nbprop.ops.conv import plan
from nbprop.ops.dense import Correlation

__all__ = ["Wide", "forward", "phases", "settle", "settle_gradient", "size"]

# A tile of one vector wants a load for each multiply-add: see dense.tile.
_SHARE_OF_PEAK = {1: 0.86, 2: 0.98}
_GAIN = 1.2  # least that the lanes' better use must bring, by count
_OPERATIONS = 4_000_000


class Wide(NamedTuple):
    """One correlation of Q columns at a time, and which tap of w each of its taps is: kh[th], kw[t, q], or -1."""

    correlation: Correlation
    kh: np.ndarray
    kw: np.ndarray
    columns: int


@functools.lru_cache(maxsize=512)
def forward(g, dtype, exact):
    """Return the Wide that a forward pass is, or None where it does not pay."""
    p = plan.forward(g)
    if exact or p.KW == 1:
        return None
    Q = _columns(g, g.O, p.KW, g.OW, lambda Q: p.KW + (Q - 1) * p.SW, range(1, g.OW + 1), dtype)
    if Q == 1:
        return None
    T = p.KW + (Q - 1) * p.SW
    kw = np.arange(T)[:, None] - np.arange(Q) * p.SW
    wide = p._replace(KW=T, SW=Q * p.SW, OW=p.OW // Q, OG=Q * p.OG, YW=Q * p.YW)
    return Wide(wide, np.arange(p.KH), np.where((kw >= 0) & (kw < p.KW), kw, -1), Q)


@functools.lru_cache(maxsize=512)
def phases(g, dtype, exact):
    """Return the Wides of the input gradient, one for each stride phase of the rows, or None.

    A kernel narrower than its stride leaves columns without any tap: it keeps to its phases.
    """
    if exact or g.KW < g.SW:
        return None
    Q = _columns(g, g.C, g.KW / g.SW, g.W, lambda Q: _reach(g, Q)[1], range(g.SW, g.W + 1, g.SW), dtype)
    if Q == 1:
        return None
    first, T = _reach(g, Q)
    kw = np.arange(Q) + g.PW - g.SW * (np.arange(T)[:, None] + first)
    kw = np.where((kw >= 0) & (kw < g.KW), kw, -1)
    found = []
    for phase in plan.phases(g)[:: g.SW]:
        p, (KH0, KHS, TH, *_) = phase
        wide = p._replace(KW=T if TH else 0, SW=Q // g.SW, LEFT=-first, OW=g.W // Q, OG=Q * p.OG, YW=Q * g.C)
        found.append(Wide(wide, KH0 + KHS * np.arange(TH)[::-1], kw, Q))
    return tuple(found)


def _reach(g, Q):
    """Return the first of the columns of dy that Q columns of dx meet, from the first one's on, and their number."""
    e = [(q + g.PW - kw) // g.SW for q in range(Q) for kw in range(g.KW) if (q + g.PW - kw) % g.SW == 0]
    return min(e), max(e) - min(e) + 1


def _columns(g, outputs, taps, width, reach, candidates, dtype):
    """Return the number of columns that costs the fewest vectors per column; 1 where that brings too little."""
    operations = 2 * g.N * g.OH * g.OW * g.O * g.C * g.KH * g.KW
    if g.G > 1 or g.DW > 1 or operations < _OPERATIONS:
        return 1
    lanes = simd.lanes(np.dtype(dtype))

    def cost(Q, taps):
        vectors = -(-Q * outputs // lanes)
        return vectors * taps / Q / _SHARE_OF_PEAK[vectors]

    fit = [Q for Q in candidates if width % Q == 0 and Q * outputs <= 2 * lanes]
    best = min(fit, key=lambda Q: cost(Q, reach(Q)), default=1)
    if outputs > lanes or _GAIN * cost(best, reach(best)) > cost(1, taps):
        return 1
    return best


def size(g, dtype):
    """Return the elements of scratch memory that the widest pass needs."""
    first, rest = forward(g, dtype, False), phases(g, dtype, False) or ()
    sizes = [sum(_gradient_sizes(first, dtype))] if first else [0]
    for wide in (first, *rest) if first else rest:
        sizes.append(correlate.panels_size(wide.correlation, dtype) + wide.correlation.OG)
    return max(sizes)


def _gradient_sizes(wide, dtype):
    """Return the elements of the gradients of w' and of its bias, and of what their sums need."""
    p = wide.correlation
    return p.KH * p.KW * p.CG * p.OG, p.OG, outer.memory(p, dtype)


def settle_gradient(wide, dtype, scratch):
    """Return the function of x, dy, dw and db (flat) that fills dw and db.

    It computes the gradient of w', whose entries for the Q columns of each tap are then added up.
    """
    p = wide.correlation
    weights, biases, _ = _gradient_sizes(wide, dtype)
    wide_dw, wide_db = scratch[:weights], scratch[weights : weights + biases]
    product = outer.settle(p, dtype, scratch[weights + biases :])

    def run(x, dy, dw, db):
        product(x, dy, wide_dw, wide_db)
        _add_columns(wide_dw, wide_db, dw, db, wide.kw, p.CG, p.KH, p.OG // wide.columns, 1)

    return run


@jit.driver
def _add_columns(wide, wide_db, dw, db, kw, inputs, rows, outputs, task, tasks):
    """Add wide[kh][t][c][(q, o)] to dw[kh][kw[t, q]][c][o], and wide_db[(q, o)] to db[o], in order."""
    T, Q = kw.shape
    db[:] = 0
    for q in range(Q):
        for o in range(outputs):
            db[o] += wide_db[q * outputs + o]
    taps = dw.size // (rows * inputs * outputs)
    for i in range(dw.size):
        dw[i] = 0
    for row in range(rows * T * inputs):
        kh, t, c = row // (T * inputs), row // inputs % T, row % inputs
        for q in range(Q):
            if kw[t, q] >= 0:
                target = ((kh * taps + kw[t, q]) * inputs + c) * outputs
                for o in range(outputs):
                    dw[target + o] += wide[(row * Q + q) * outputs + o]


def settle(wide, inputs, steps, dtype, scratch, floor):
    """Return the function of x, w, b and y (flat) that fills y with max(b + x correlated with w, floor).

    `steps` says how far apart in `w` lie neighbouring taps kh and kw, of `inputs` input and of output channels.
    The function's fifth argument is that of `correlate.settle`.
    """
    p = wide.correlation
    width, size = correlate.panel_width(p, dtype), correlate.panels_size(p, dtype)
    packed, bias = scratch[:size], scratch[size : size + p.OG]
    product = correlate.settle(p, width, dtype, floor)

    def run(x, w, b, y, gate=None):
        _pack(w, b, packed, bias, wide.kh, wide.kw, inputs, width, steps, 1)
        product(x, packed, bias, y, gate)

    return run


@jit.driver
def _pack(w, b, packed, bias, kh, kw, inputs, P, steps, task, tasks):
    """Lay the weights out as packed[th][t][c][(q, o)], P wide, and the bias as bias[(q, o)]."""
    (T, Q), outputs = kw.shape, b.size
    for q in range(Q):
        simd.copy(b, 0, bias, q * outputs, outputs)
    for row in range(kh.size * T * inputs):
        th, t, c = row // (T * inputs), row // inputs % T, row % inputs
        for lane in range(P):
            packed[row * P + lane] = 0
        for q in range(Q):
            if kw[t, q] >= 0:
                start = kh[th] * steps[0] + kw[t, q] * steps[1] + c * steps[2]
                for o in range(outputs):
                    packed[row * P + q * outputs + o] = w[start + o * steps[3]]
