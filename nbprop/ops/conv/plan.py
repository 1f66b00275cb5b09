"""A convolution's three passes as dense correlations: which numbers each one is."""

import functools
import math
from typing import NamedTuple

from nbprop.ops.dense import Correlation

__all__ = ["Phase", "axis_phases", "forward", "phases"]


@functools.lru_cache(maxsize=512)
def forward(g):
    """Return the correlation that y is of x with w; the weight gradient runs over the same numbers."""
    if _is_product(g):
        return _product(g)
    return Correlation(
        N=g.N, H=g.H, W=g.W, C=g.C, **_channels(g, g.C, g.O), KH=g.KH, KW=g.KW, SH=g.SH, SW=g.SW, DH=g.DH, DW=g.DW,
        TOP=g.PH, LEFT=g.PW, OH=g.OH, OW=g.OW, Y0=0, YN=g.OH * g.OW * g.O, YH=g.OW * g.O, YW=g.O)


def _channels(g, inputs, outputs):
    """Groups and channels; a depthwise convolution with one kernel per channel is one group of lanes."""
    if g.G == g.C == g.O and g.C > 1:
        return {"G": 1, "CG": g.C, "OG": g.C, "LANEWISE": 1}
    return {"G": g.G, "CG": inputs // g.G, "OG": outputs // g.G}


def _is_product(g):
    """Say whether every pixel of x meets one of y: a transposed convolution's output_padding adds some that do not."""
    plain = (g.KH, g.KW, g.SH, g.SW, g.PH, g.PW, g.G) == (1, 1, 1, 1, 0, 0, 1)
    return plain and (g.OH, g.OW) == (g.H, g.W)


def _product(g):
    """A 1x1 convolution is a matrix product over all pixels of the batch: one column of them."""
    rows = g.N * g.H * g.W
    return Correlation(N=1, H=rows, W=1, C=g.C, G=1, CG=g.C, OG=g.O, KH=1, KW=1, SH=1, SW=1,
                       DH=1, DW=1, TOP=0, LEFT=0, OH=rows, OW=1, Y0=0, YN=rows * g.O, YH=g.O, YW=g.O)


class Phase(NamedTuple):
    """One stride phase of the input gradient: its correlation of dy, and the taps of w that it uses."""

    correlation: Correlation
    taps: tuple


@functools.lru_cache(maxsize=512)
def phases(g):
    """Return the phases of the input gradient: dense correlations of dy that skip the zeros of seed 003, 3.2.

    x[h] meets y[oh] through tap kh where oh S + kh D - P = h. Of the rows h = S i + r, one phase, only the taps with
    kh D = r + P (mod S) do: kh = kh0 + q t with q = S / gcd(S, D). Then

        oh = i + (r + P - kh0 D) / S - t D / gcd(S, D),

    which is a correlation of stride 1 with dilation D / gcd(S, D) over the taps in reverse. A phase without taps
    leaves zeros, and so do rows past the last window (the remainder that seed 003 forgets).
    """
    found = []
    for rh, TH, KH0, KHS, DH, TOP, rows in axis_phases(g.H, g.KH, g.SH, g.PH, g.DH):
        for rw, TW, KW0, KWS, DW, LEFT, columns in axis_phases(g.W, g.KW, g.SW, g.PW, g.DW):
            p = Correlation(N=g.N, H=g.OH, W=g.OW, C=g.O, **_channels(g, g.O, g.C), KH=TH if TW else 0,
                            KW=TW if TH else 0, SH=1, SW=1, DH=DH, DW=DW, TOP=TOP, LEFT=LEFT, OH=rows, OW=columns,
                            Y0=(rh * g.W + rw) * g.C, YN=g.H * g.W * g.C, YH=g.SH * g.W * g.C, YW=g.SW * g.C)
            found.append(Phase(p, (KH0, KHS, p.KH, KW0, KWS, p.KW)))
    if _is_product(g):
        p = _product(g._replace(C=g.O, O=g.C))
        return (Phase(p, found[0].taps),)
    return tuple(found)


def axis_phases(size, k, stride, padding, dilation):
    """Yield (r, taps, first tap, step of taps, dilation, padding, count of rows) along one axis."""
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    for r in range(min(stride, size)):
        first = next((t for t in range(min(step, k)) if (r + padding - t * dilation) % stride == 0), k)
        taps = -(-(k - first) // step)
        top = (taps - 1) * spread - (r + padding - first * dilation) // stride if taps else 0
        yield r, taps, first, step, spread, top, -(-(size - r) // stride)
