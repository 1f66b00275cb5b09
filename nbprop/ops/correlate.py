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
    return p.G * -(-p.OG // width) * p.KH * p.KW * p.CG * width


def correlate(x, w, ldw, bias, y, p, scratch, floor):
    """Fill y (flat) with max(bias + correlation of x with w, floor).

    `w` (flat) holds packed panels (`ldw` = P), or the weights themselves with rows of `ldw` channels where the
    panels divide them. `scratch` is (tasks, dense.scratch_size).
    """
    p, mr, nv, a_rows, c_rows, khb, runb = plan(p, x.dtype)
    width = nv * simd.lanes(x.dtype)
    panels = -(-p.OG // width)
    blocks = dense.blocks(p)
    operations = 2 * p.N * p.OH * p.OW * p.G * p.OG * p.CG * p.KH * p.KW
    tasks = min(dense.worth_threads(operations), scratch.shape[0], max(blocks * panels, 1))
    parts = min(panels, -(-tasks // max(blocks, 1)))
    # One panel after another: packed they lie K P apart, in place P apart.
    step = p.KH * p.KW * p.CG * width if ldw == width else width
    serial, parallel = _kernels(mr, nv)
    arguments = (x, w, ldw, step, bias, y, p, a_rows, c_rows, width, khb, runb, scratch, floor)
    if tasks == 1:
        serial(*arguments, 0, 1, 1)
    else:
        parallel(*arguments, max(tasks // parts, 1), parts)


@functools.cache
def _kernels(mr, nv):
    """Make the serial kernel for one tile size, and the driver that runs it over tasks."""
    micro_kernel = simd.product(mr, nv, False)
    pad = dense.pad

    @jit.kernel
    def correlate_task(x, w, ldw, step, bias, y, p, a_rows, c_rows, P, khb, runb, scratch, floor,
                       task, ways, parts):
        panels = (p.OG + P - 1) // P
        bands = (p.OH + p.RB - 1) // p.RB
        count = (p.N + p.NB - 1) // p.NB * bands
        part, way = task // ways, task % ways
        half = a_rows.size // 2
        merged = p.DW == 1
        taps = 1 if merged else p.KW
        run = p.KW * p.CG if merged else p.CG
        unbounded = x.dtype.type(-np.inf)
        own = scratch[task]
        for block in range(way * count // ways, (way + 1) * count // ways):
            n0, r0 = block // bands * p.NB, block % bands * p.RB
            images, rows = min(p.NB, p.N - n0), min(p.RB, p.OH - r0)
            start = half if images < p.NB or rows < p.RB else 0
            pixels = images * rows * p.OW
            for g in range(p.G):
                if p.DIRECT:
                    a, a0 = x, (n0 * p.H + r0 * p.SH) * p.W * p.C
                else:
                    pad(x, own, p, g, n0, images, r0, rows)
                    a, a0 = own, 0
                for panel in range(part * panels // parts, (part + 1) * panels // parts):
                    o = g * p.OG + panel * P
                    width = min(P, p.OG - panel * P)
                    y0 = p.Y0 + n0 * p.YN + r0 * p.YH + o
                    w0 = (g * panels + panel) * step
                    for kh in range(0, max(p.KH, 1), khb):
                        for k in range(0, max(run, 1), runb):
                            lowest = floor if kh + khb >= p.KH and k + runb >= run else unbounded
                            init, i0, si = y, y0, 1
                            if kh == 0 and k == 0:
                                init, i0, si = bias, o, 0
                            for row in range(0, pixels, mr):
                                micro_kernel(start + row, a, a0 + kh * p.DH * p.WP * p.CS + k, a_rows,
                                             min(khb, p.KH - kh), taps, min(runb, run - k),
                                             p.DH * p.WP * p.CS, p.DW * p.CS, 1,
                                             w, w0 + (kh * p.KW * p.CG + k) * ldw,
                                             p.KW * p.CG * ldw, p.CG * ldw, ldw,
                                             init, i0, si, y, y0, c_rows, width, lowest)

    @jit.driver
    def correlate_tasks(x, w, ldw, step, bias, y, p, a_rows, c_rows, P, khb, runb, scratch, floor, ways, parts):
        for task in prange(ways * parts):
            correlate_task(x, w, ldw, step, bias, y, p, a_rows, c_rows, P, khb, runb, scratch, floor,
                           task, ways, parts)

    return correlate_task, correlate_tasks
