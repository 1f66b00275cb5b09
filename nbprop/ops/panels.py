"""Panels of weights, as the dense correlation reads them: P neighbouring output channels for every row of its sums.

    panel[k][P]        zero beyond the group's last channel

Forward, k = (kh, kw, c) and the channels are o. For the input gradient k = (th, tw, o) over the taps of one stride
phase, in reverse, and the channels are c: the kernel rotated by 180 degrees with its channels exchanged (seed 003,
section 3.1.3).
"""

from nbprop import jit
from nbprop.ops import simd
from nbprop.ops.flat import share

__all__ = ["exchange_panel", "exchange_panels", "reverse_taps", "transpose_panel"]


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


@jit.scalar
def _tap(phase, tap):
    """Return which of a kernel's KH KW taps is one of a phase's, counted in reverse.

    `phase` is (KW, KH0, KHS, TH, KW0, KWS, TW): its taps are kh = KH0 + KHS t for t < TH, and kw alike.
    """
    KW, KH0, KHS, TH, KW0, KWS, TW = phase[0], phase[1], phase[2], phase[3], phase[4], phase[5], phase[6]
    return (KH0 + KHS * (TH - 1 - tap // TW)) * KW + KW0 + KWS * (TW - 1 - tap % TW)


@jit.kernel
def exchange_panel(w, phase, CG, O, begin, OG, c, width, target, start, P, L):
    """Fill the panel target[start ..] for the input gradient of one stride phase (see _tap).

    `w` is flat, in the memory order KH, KW, C / G, O. The panel's channels are c .. c + width - 1, and its sums run
    over the OG output channels from `begin` on.
    """
    for tap in range(phase[3] * phase[6]):
        source = (_tap(phase, tap) * CG + c) * O + begin
        transpose_panel(w, source, O, target, start + tap * OG * P, OG, width, P, L)


@jit.driver
def exchange_panels(w, phase, CG, OG, packed, P, L, task, tasks):
    """Fill all panels of a single group, one after another."""
    size = phase[3] * phase[6] * OG * P
    for panel in range(*share((CG + P - 1) // P, task, tasks)):
        exchange_panel(w, phase, CG, OG, 0, OG, panel * P, min(P, CG - panel * P), packed, panel * size, P, L)


@jit.driver
def reverse_taps(w, packed, C, phase, task, tasks):
    """Copy the taps of a depthwise kernel (flat, memory KH, KW, 1, C), a row each, in the phase's order."""
    for tap in range(*share(phase[3] * phase[6], task, tasks)):
        simd.copy(w, _tap(phase, tap) * C, packed, tap * C, C)
