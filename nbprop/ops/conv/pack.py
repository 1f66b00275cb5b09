"""Weights as panels: what the dense correlation reads.

A panel holds P neighbouring output channels of one group, for every row k of the correlation:

    packed[group][panel][k][P]        zero beyond the group's last channel

Forward, k = (kh, kw, c) and the channels are o. For the input gradient k = (th, tw, o) over the taps of one stride
phase, in reverse, and the channels are c: the kernel rotated by 180 degrees with its channels exchanged (seed 003,
section 3.1.3).
"""

from nbprop import jit
from nbprop.ops import simd
from nbprop.ops.flat import share

__all__ = ["pack_reversed", "pack_transposed", "transpose_panel"]


@jit.kernel
def transpose_panel(w, source, stride, packed, target, count, width, P, L):
    """Transpose part of a tap: packed[target + o P + j] = w[source + j stride + o] for j < width, and 0 up to P."""
    for o0 in range(0, count, L):
        for j0 in range(0, P, L):
            if o0 + L <= count and j0 + L <= width:
                simd.transpose_square(w, source + j0 * stride + o0, stride, packed, target + o0 * P + j0, P)
                continue
            for o in range(o0, min(o0 + L, count)):
                for j in range(j0, j0 + L):
                    packed[target + o * P + j] = w[source + j * stride + o] if j < width else 0


@jit.driver
def _transpose_taps(w, packed, G, CG, OG, KW, P, L, phase, task, tasks):
    """Transpose a task's items, each one (group, panel of c, tap)."""
    KH0, KHS, TH, KW0, KWS, TW = phase
    panels = (CG + P - 1) // P
    O = G * OG
    for item in range(*share(G * panels * TH * TW, task, tasks)):
        slab, tap = item // (TH * TW), item % (TH * TW)
        g, panel = slab // panels, slab % panels
        kh = KH0 + KHS * (TH - 1 - tap // TW)
        kw = KW0 + KWS * (TW - 1 - tap % TW)
        source = ((kh * KW + kw) * CG + panel * P) * O + g * OG
        transpose_panel(w, source, O, packed, item * OG * P, OG, min(P, CG - panel * P), P, L)


@jit.kernel
def _reverse_taps(w, packed, C, KW, phase):
    """Copy the taps of a depthwise kernel, one row of channels each, last first."""
    KH0, KHS, TH, KW0, KWS, TW = phase
    for tap in range(TH * TW):
        kh = KH0 + KHS * (TH - 1 - tap // TW)
        kw = KW0 + KWS * (TW - 1 - tap % TW)
        simd.copy(w, (kh * KW + kw) * C, packed, tap * C, C)


def pack_transposed(w, packed, G, CG, OG, KW, P, phase, tasks):
    """Pack weights (flat, memory KH, KW, C, O) for the input gradient of one stride phase.

    `phase` is (KH0, KHS, TH, KW0, KWS, TW): its taps are kh = KH0 + KHS t for t < TH, last first, and kw alike.
    """
    _transpose_taps(w, packed, G, CG, OG, KW, P, simd.lanes(w.dtype), phase, tasks)


def pack_reversed(w, packed, C, KW, phase):
    """Pack depthwise weights (flat, memory KH, KW, 1, C) for the input gradient of one stride phase."""
    _reverse_taps(w, packed, C, KW, phase)
