"""Weights as panels: what the dense correlation reads.

A panel holds P neighbouring output channels of one group, for every row k of the correlation:

    packed[group][panel][k][P]        zero beyond the group's last channel

Forward, k = (kh, kw, c) and the channels are o. For the input gradient k = (th, tw, o) over the taps of one stride
phase, in reverse, and the channels are c: the kernel rotated by 180 degrees with its channels exchanged (seed 003,
section 3.1.3).
"""

from numba import prange

from nbprop import jit

__all__ = ["pack", "pack_transposed"]


@jit.kernel
def _pack_rows(w, packed, G, OG, K, P, first, last):
    """Copy rows first .. last - 1 of the (G panels K) rows of P."""
    panels = (OG + P - 1) // P
    for row in range(first, last):
        slab, k = row // K, row % K
        g, panel = slab // panels, slab % panels
        source, width = k * G * OG + g * OG + panel * P, min(P, OG - panel * P)
        for j in range(width):
            packed[row * P + j] = w[source + j]
        for j in range(width, P):
            packed[row * P + j] = 0


@jit.driver
def _pack_tasks(w, packed, G, OG, K, P, rows, tasks):
    for task in prange(tasks):
        _pack_rows(w, packed, G, OG, K, P, task * rows // tasks, (task + 1) * rows // tasks)


def pack(w, packed, G, OG, K, P, tasks):
    """Pack weights (flat, memory KH, KW, C, O) for the forward pass; K = KH KW C/G."""
    rows = G * -(-OG // P) * K
    if tasks == 1:
        _pack_rows(w, packed, G, OG, K, P, 0, rows)
    else:
        _pack_tasks(w, packed, G, OG, K, P, rows, tasks)


@jit.kernel
def _transpose_taps(w, packed, G, CG, OG, KW, P, phase, first, last):
    """Transpose items first .. last - 1, each one (group, panel of c, tap)."""
    KH0, KHS, TH, KW0, KWS, TW = phase
    panels = (CG + P - 1) // P
    O = G * OG
    for item in range(first, last):
        slab, tap = item // (TH * TW), item % (TH * TW)
        g, panel = slab // panels, slab % panels
        kh = KH0 + KHS * (TH - 1 - tap // TW)
        kw = KW0 + KWS * (TW - 1 - tap % TW)
        width = min(P, CG - panel * P)
        source = ((kh * KW + kw) * CG + panel * P) * O + g * OG
        target = item * OG * P
        # Squares of 16 by 16: one cache line of each of 16 rows is read, and one of each of 16 written.
        for o0 in range(0, OG, 16):
            high = min(16, OG - o0)
            for j0 in range(0, P, 16):
                for o in range(o0, o0 + high):
                    for j in range(j0, min(j0 + 16, P)):
                        packed[target + o * P + j] = w[source + j * O + o] if j < width else 0


@jit.driver
def _transpose_tasks(w, packed, G, CG, OG, KW, P, phase, items, tasks):
    for task in prange(tasks):
        _transpose_taps(w, packed, G, CG, OG, KW, P, phase, task * items // tasks, (task + 1) * items // tasks)


def pack_transposed(w, packed, G, CG, OG, KW, P, phase, tasks):
    """Pack weights (flat, memory KH, KW, C, O) for the input gradient of one stride phase.

    `phase` is (KH0, KHS, TH, KW0, KWS, TW): its taps are kh = KH0 + KHS t for t < TH, last first, and kw alike.
    """
    items = G * -(-CG // P) * phase[2] * phase[5]
    if tasks == 1:
        _transpose_taps(w, packed, G, CG, OG, KW, P, phase, 0, items)
    else:
        _transpose_tasks(w, packed, G, CG, OG, KW, P, phase, items, tasks)
