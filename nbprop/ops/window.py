"""Walking over windows: which positions of a window lie inside the image, and which windows hold a position.

A window o of size K, stride S, padding P and dilation D looks at positions o S - P + k D, k = 0 .. K-1.
Kernels visit positions four at a time, so that the running maximum or sum of a pixel's channels stays in
registers: a 2 x 2 window is one visit.
"""

from nbprop import jit

__all__ = ["alike", "at_last", "covering", "following", "inside"]


@jit.scalar
def inside(o, K, S, P, D, size):
    """Return first and stop: window o's positions inside 0 .. size-1 are first, first + D, ... below stop."""
    start = o * S - P
    first = start if start >= 0 else start + (D - 1 - start) // D * D
    return first, min(start + (K - 1) * D + 1, size)


@jit.scalar
def following(h, w, DH, DW, h_stop, w_first, w_stop):
    """Return the position after (h, w) in row order; the last one is followed by itself."""
    if w + DW < w_stop:
        return h, w + DW
    if h + DH < h_stop:
        return h + DH, w_first
    return h, w


@jit.scalar
def at_last(h, w, DH, DW, h_stop, w_stop):
    """Say whether (h, w) is the last position before the stops."""
    return h + DH >= h_stop and w + DW >= w_stop


@jit.scalar
def alike(ow, h_first, h_stop, planes, kernel, stride, padding, dilation):
    """Return how many windows from `ow` on lie inside the image's columns with up to four positions: one call's."""
    (_, W, _, OW), (_, KW), (_, SW), (_, PW), (DH, DW) = planes, kernel, stride, padding, dilation
    rows = (h_stop - 1 - h_first) // DH + 1
    first, stop = (PW + SW - 1) // SW, min((W - 1 - (KW - 1) * DW + PW) // SW + 1, OW)
    return stop - ow if rows * KW <= 4 and first <= ow < stop else 1


@jit.scalar
def covering(position, reach, S, P, windows, first, stop):
    """Return first and stop of the windows whose reach holds `position`, given an earlier position's."""
    while stop < windows and stop * S - P <= position:
        stop += 1
    while first < stop and first * S - P + reach <= position:
        first += 1
    return first, stop
