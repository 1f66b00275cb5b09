"""Few input channels and no padding to the sides: the input gradient, spread from columns of dy.

In channels-last memory the KW pixels of a window's row lie side by side, as they do in the weights: KW C numbers, which
may fill a vector where C alone does not (five columns of six channels are 30 of 32 lanes). One column e of dy adds

    dx[.., e SW + kw, c] += sum over kh, o of dy[.., e, o] w[kh, kw, c, o]

to all of them at once: a correlation with a KH x 1 kernel and KW C output channels, whose windows of dx overlap.
Columns T apart do not, T >= KW / SW, and go together; the T sets of them follow one another.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import correlate, dense, panels, pixels, simd
from nbprop.ops.conv import plan
from nbprop.ops.dense import Correlation
from nbprop.ops.micro_kernel import multiply, product
from nbprop.ops.queue import queue, take
from nbprop.ops.through_relu import gate_run

__all__ = ["Spread", "phases", "settle", "size"]

# Least share of the lanes that is filled: several columns at once (wide.py) fill 0.5 to 0.6, as they multiply zeros.
# 16 to 6 channels, 5 x 5 on 14 x 14, 64 images: 109 us to 181 on two cores (Zen 5), 280 GFLOP/s; one image 11 us to 48.
_FILLED = 0.75
_VECTORS = 4  # of a window's row at most
_OPERATIONS = 400_000  # below, it is not worth its kernels to compile


class Spread(NamedTuple):
    """One stride phase of the rows: the correlation of a set of columns, the number of sets, the taps of the rows."""

    correlation: Correlation
    sets: int
    taps: tuple


@functools.lru_cache(maxsize=512)
def phases(g, dtype, exact):
    """Return the Spreads of an input gradient, one for each stride phase of the rows, or None where it does not fit."""
    lanes, width = simd.lanes(np.dtype(dtype)), g.KW * g.C
    if exact or g.G > 1 or g.DW > 1 or g.PW or g.KH == 1 or g.KW == 1:
        return None
    vectors = -(-width // lanes)
    operations = 2 * g.N * g.OH * g.OW * g.O * width * g.KH
    if vectors > _VECTORS or g.C >= lanes or width < _FILLED * vectors * lanes or operations < _OPERATIONS:
        return None
    sets = next((T for T in range(-(-g.KW // g.SW), g.OW) if g.OW % T == 0), g.OW)
    rows = g._replace(C=width, W=g.OW, KW=1, SW=1)
    found = []
    for r, (p, taps) in enumerate(plan.phases(rows)):
        found.append(Spread(p._replace(SW=sets, OW=g.OW // sets, Y0=r * g.W * g.C, YN=g.H * g.W * g.C,
                                       YH=g.SH * g.W * g.C, YW=sets * g.SW * g.C), sets, taps))
    return tuple(found)


def size(g, dtype):
    """Return the elements of scratch memory that packed weights need."""
    return max((correlate.panels_size(each.correlation, dtype) for each in phases(g, dtype, False) or ()), default=0)


def settle(spread, g, dtype, packed):
    """Return the function of dy, w, b and dx (flat) that fills dx with b + a phase of the input gradient.

    Its fifth argument is that of `correlate.settle`.
    """
    p, mr, nv, tables, _, _ = correlate.plan(spread.correlation, dtype, jit.threads())
    width = nv * simd.lanes(dtype)
    tasks = max(1, min(dense.worth_threads(spread.sets * dense.operations(p)), dense.blocks(p)))
    row = np.empty(g.W * g.C, dtype)
    phase, least = np.array([1, *spread.taps]), dtype.type(-np.inf)
    arguments = (packed, row, np.array(p, np.int64), *tables, width, spread.sets, g.SW * g.C, product(mr, nv, dtype),
                 queue(tasks), tasks)

    def run(dy, w, b, dx, gate=None):
        pixels.fill_pixels(b, least, row)
        panels.exchange_panels(w, phase, p.OG, p.CG, packed, width, simd.lanes(dtype), 1)
        _spread_items(dy, dx, dx if gate is None else gate, gate is not None, *arguments)

    return run


@jit.driver
def _spread_items(dy, dx, gate, gated, w, row, numbers, a_rows, c_rows, regions, kinds, P, sets, step, micro, waiting,
                  task, tasks):
    p = dense.fields(numbers)
    bands = (p.OH + p.RB - 1) // p.RB
    items = (p.N + p.NB - 1) // p.NB * bands
    item = take(waiting, items, task, tasks)
    while item < items:
        n0, band = item // bands * p.NB, item % bands
        first, last = kinds[band, int(n0 + p.NB > p.N)]
        a0 = (n0 * p.H + band * p.RB - p.TOP) * p.W * p.C
        y0 = p.Y0 + n0 * p.YN + band * p.RB * p.YH
        for n in range(min(p.NB, p.N - n0)):
            for r in range(min(p.RB, p.OH - band * p.RB)):
                simd.copy(row, 0, dx, y0 + n * p.YN + r * p.YH, row.size)
        for e in range(sets):
            for region in range(first, last):
                begin, end, kh0, kh1, _, _ = regions[region]
                for o in range(0, p.OG, P):
                    at = y0 + e * step + o
                    multiply(micro, begin, end, dy, a0 + (kh0 * p.DH * p.W + e) * p.C, a_rows, kh1 - kh0, 1, p.CG,
                            p.DH * p.W * p.C, 0, 1, w, (o * p.KH + kh0 * P) * p.CG, p.CG * P, 0, P,
                            dx, at, 1, dx, at, c_rows, min(P, p.OG - o), dx.dtype.type(-np.inf), dy, 0, 0)
        if gated:
            for n in range(min(p.NB, p.N - n0)):
                for r in range(min(p.RB, p.OH - band * p.RB)):
                    gate_run(dx, y0 + n * p.YN + r * p.YH, gate, row.size)
        item = take(waiting, items, task, tasks)
