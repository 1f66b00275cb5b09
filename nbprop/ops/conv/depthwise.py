"""Depthwise convolution: every channel has its own kernel, so lanes are channels and nothing is a matrix product."""

import functools

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops import dense

__all__ = ["backward_input", "backward_weight", "forward", "serves"]

# Parts of the batch whose weight gradients are summed apart, and then in order.
_CHUNKS = 32


def serves(g):
    """Say whether this convolution is depthwise with one kernel per channel."""
    return g.G == g.C == g.O and g.C > 1


@jit.kernel
def _forward_rows(x, w, b, y, g, floor, first, last):
    """Output rows first .. last - 1 of all N OH: the sum over taps, one tap at a time over a row of y in L1."""
    C = g.C
    for item in range(first, last):
        n, oh = item // g.OH, item % g.OH
        row = item * g.OW * C
        for ow in range(g.OW):
            for c in range(C):
                y[row + ow * C + c] = b[c]
        for kh in range(g.KH):
            h = oh * g.SH + kh * g.DH - g.PH
            if h < 0 or h >= g.H:
                continue
            for kw in range(g.KW):
                tap = (kh * g.KW + kw) * C
                start, stop = _columns(g, kw)
                for ow in range(start, stop):
                    at = ((n * g.H + h) * g.W + ow * g.SW + kw * g.DW - g.PW) * C
                    for c in range(C):
                        y[row + ow * C + c] += x[at + c] * w[tap + c]
        for i in range(row, row + g.OW * C):
            y[i] = floor if y[i] < floor else y[i]


@jit.kernel
def _columns(g, kw):
    """The output columns whose tap kw falls inside the row: 0 <= ow SW + kw DW - PW < W."""
    reach = g.PW - kw * g.DW
    start = max(0, (reach + g.SW - 1) // g.SW)
    return start, max(start, min(g.OW, (g.W - 1 + reach) // g.SW + 1))


@jit.kernel
def _backward_input_images(dy, w, dx, g, first, last):
    """dx of images first .. last - 1: every window hands its gradient back to its taps."""
    C = g.C
    for n in range(first, last):
        for i in range(n * g.H * g.W * C, (n + 1) * g.H * g.W * C):
            dx[i] = 0
        for oh in range(g.OH):
            for kh in range(g.KH):
                h = oh * g.SH + kh * g.DH - g.PH
                if h < 0 or h >= g.H:
                    continue
                for kw in range(g.KW):
                    tap = (kh * g.KW + kw) * C
                    start, stop = _columns(g, kw)
                    for ow in range(start, stop):
                        at = ((n * g.H + h) * g.W + ow * g.SW + kw * g.DW - g.PW) * C
                        row = ((n * g.OH + oh) * g.OW + ow) * C
                        for c in range(C):
                            dx[at + c] += dy[row + c] * w[tap + c]


@jit.kernel
def _backward_weight_chunks(dy, x, sums, g, chunks, first, last):
    """Partial sums of dw and db of chunks first .. last - 1, each a fixed share of the N OH rows."""
    C = g.C
    rows = g.N * g.OH
    for chunk in range(first, last):
        own = sums[chunk]
        for i in range(own.size):
            own[i] = 0
        for item in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            n, oh = item // g.OH, item % g.OH
            for ow in range(g.OW):
                for c in range(C):
                    own[g.KH * g.KW * C + c] += dy[(item * g.OW + ow) * C + c]
            for kh in range(g.KH):
                h = oh * g.SH + kh * g.DH - g.PH
                if h < 0 or h >= g.H:
                    continue
                for kw in range(g.KW):
                    tap = (kh * g.KW + kw) * C
                    start, stop = _columns(g, kw)
                    for ow in range(start, stop):
                        at = ((n * g.H + h) * g.W + ow * g.SW + kw * g.DW - g.PW) * C
                        for c in range(C):
                            own[tap + c] += dy[(item * g.OW + ow) * C + c] * x[at + c]


@functools.cache
def _over(kernel, count):
    """Make the driver that shares out `count` leading items over tasks."""
    raise NotImplementedError
