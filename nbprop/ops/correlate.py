"""The dense correlation: convolution's forward pass, its input gradient, and the linear layer's, in one driver."""

import functools

import numpy as np
from numba import prange

from nbprop import jit
from nbprop.ops import dense, simd

__all__ = ["correlate", "panel_width", "panels_size", "plan"]

# Bytes of one panel's slice that is swept before the next: it is read once per tile, so it must stay in L2.
_PANEL = 256 * 1024


@functools.lru_cache(maxsize=512)
def plan(p, dtype):
    """Return (p with its blocks, MR, NV, a_rows, c_rows, KHB, RUNB) for a correlation; cached per geometry."""
    p = dense.block(p, dtype)
    mr, nv = dense.tile(p.OG, dtype)
    run = _run(p)
    width = nv * simd.lanes(np.dtype(dtype)) * np.dtype(dtype).itemsize
    taps = p.KW if p.DW > 1 else 1
    khb = max(1, _PANEL // max(taps * run * width, 1))
    runb = run if khb > 1 or taps * run * width <= 2 * _PANEL else max(64, _PANEL // (taps * width))
    return p, mr, nv, *dense.offsets(p, mr), min(khb, max(p.KH, 1)), max(runb, 1)


def _run(p):
    """Length of the contiguous run in image and weights: without dilation, (kw, c) is one."""
    return p.CG if p.DW > 1 or (p.DIRECT and p.CS != p.CG) else p.KW * p.CG


def panel_width(channels, dtype):
    """Return P, the number of output channels in a panel."""
    return dense.tile(channels, dtype)[1] * simd.lanes(np.dtype(dtype))


def panels_size(p, dtype):
    """Return the elements that packed weights take."""
    width = panel_width(p.OG, dtype)
    return p.G * -(-p.OG // width) * p.KH * p.KW * dense.depth(p) * width


def correlate(x, w, ldw, bias, y, p, scratch, floor):
    """Fill y (flat) with max(bias + correlation of x with w, floor).

    `w` (flat) holds packed panels (`ldw` = P), or the weights themselves with rows of `ldw` channels where the
    panels divide them. `scratch` is (tasks, dense.scratch_size).
    """
    p, mr, nv, a_rows, c_rows, khb, runb = plan(p, x.dtype)
    width = nv * simd.lanes(x.dtype)
    items = dense.blocks(p) * p.G * -(-p.OG // width)
    tasks = max(1, min(dense.worth_threads(dense.operations(p)), scratch.shape[0], items))
    # One panel after another: packed they lie K P apart, in place P apart.
    step = p.KH * p.KW * p.CG * width if ldw == width and not p.LANEWISE else width
    serial, parallel = _kernels(mr, nv, bool(p.LANEWISE))
    arguments = (x, w, ldw, step, bias, y, p, a_rows, c_rows, width, khb, runb, scratch, floor)
    if tasks == 1:
        serial(*arguments, 0, 1)
    else:
        parallel(*arguments, tasks)


@functools.cache
def _kernels(mr, nv, lanewise):
    """Make the serial kernel for one tile size, and the driver that runs it over tasks."""
    sweep = _lanewise_sweep(mr, nv) if lanewise else _sweep(mr, nv)
    pad = dense.pad

    @jit.kernel
    def correlate_task(x, w, ldw, step, bias, y, p, a_rows, c_rows, P, khb, runb, scratch, floor, task, tasks):
        panels = (p.OG + P - 1) // P
        bands = (p.OH + p.RB - 1) // p.RB
        items = (p.N + p.NB - 1) // p.NB * bands * p.G * panels
        own = scratch[task]
        padded = -1
        for item in range(task * items // tasks, (task + 1) * items // tasks):
            slab, panel = item // panels, item % panels
            block, g = slab // p.G, slab % p.G
            n0, r0 = block // bands * p.NB, block % bands * p.RB
            images, rows = min(p.NB, p.N - n0), min(p.RB, p.OH - r0)
            start = a_rows.size // 2 if images < p.NB or rows < p.RB else 0
            if p.DIRECT:
                a, a0 = x, (n0 * p.H + r0 * p.SH) * p.W * p.C
            else:
                a, a0 = own, 0
                if padded != slab:
                    pad(x, own, p, g, n0, images, r0, rows)
                    padded = slab
            o = g * p.OG + panel * P
            y0 = p.Y0 + n0 * p.YN + r0 * p.YH + o
            sweep(a, a0, a_rows, w, (g * panels + panel) * step, ldw, bias, o, y, y0, c_rows,
                  start, start + images * rows * p.OW, min(P, p.OG - panel * P), P, p, khb, runb, floor)

    @jit.driver
    def correlate_tasks(x, w, ldw, step, bias, y, p, a_rows, c_rows, P, khb, runb, scratch, floor, tasks):
        for task in prange(tasks):
            correlate_task(x, w, ldw, step, bias, y, p, a_rows, c_rows, P, khb, runb, scratch, floor, task, tasks)

    return correlate_task, correlate_tasks


def _sweep(mr, nv):
    """Make the sweep of one panel over the tiles of a block, one slice of the weights after another."""
    micro_kernel = simd.product(mr, nv, False)

    @jit.kernel
    def sweep(a, a0, a_rows, w, w0, ldw, bias, o, y, y0, c_rows, first, last, width, P, p, khb, runb, floor):
        merged = p.DW == 1
        taps = 1 if merged else p.KW
        run = p.KW * p.CG if merged else p.CG
        for kh in range(0, max(p.KH, 1), khb):
            for k in range(0, max(run, 1), runb):
                lowest = floor if kh + khb >= p.KH and k + runb >= run else a.dtype.type(-np.inf)
                init, i0, si = y, y0, 1
                if kh == 0 and k == 0:
                    init, i0, si = bias, o, 0
                for row in range(first, last, mr):
                    micro_kernel(row, a, a0 + kh * p.DH * p.WP * p.CS + k, a_rows,
                                 min(khb, p.KH - kh), taps, min(runb, run - k), p.DH * p.WP * p.CS, p.DW * p.CS, 1,
                                 w, w0 + (kh * p.KW * p.CG + k) * ldw, p.KW * p.CG * ldw, p.CG * ldw, ldw,
                                 init, i0, si, y, y0, c_rows, width, lowest)

    return sweep


def _lanewise_sweep(mr, nv):
    """Make the sweep of a depthwise convolution: a panel of channels meets only its own weights."""
    whole, part = simd.product(mr, nv, False, True), simd.product(mr, nv, True, True)

    @jit.kernel
    def sweep(a, a0, a_rows, w, w0, ldw, bias, o, y, y0, c_rows, first, last, width, P, p, khb, runb, floor):
        for row in range(first, last, mr):
            if width == P:
                whole(row, a, a0 + o, a_rows, 1, p.KH, p.KW, 0, p.DH * p.WP * p.CS, p.DW * p.CS,
                      w, w0, 0, p.KW * ldw, ldw, bias, o, 0, y, y0, c_rows, width, floor)
            else:
                part(row, a, a0 + o, a_rows, 1, p.KH, p.KW, 0, p.DH * p.WP * p.CS, p.DW * p.CS,
                     w, w0, 0, p.KW * ldw, ldw, bias, o, 0, y, y0, c_rows, width, floor)

    return sweep
