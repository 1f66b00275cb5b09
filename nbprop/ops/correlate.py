"""The dense correlation: convolution's forward pass, its input gradient, and the linear layer's, in one driver."""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import jit
from nbprop.ops import dense, lanewise, simd
from nbprop.ops.flat import share
from nbprop.ops.micro_kernel import multiply, product
from nbprop.ops.panels import exchange_panel
from nbprop.ops.queue import queue, take, upcoming
from nbprop.ops.through_relu import gate_run

__all__ = ["memory", "panel_width", "panels_size", "plan", "settle"]

# Bytes of one panel's slice that is swept before the next: it is read once per tile, from L1. In L2 (256 KiB) linear
# layers of 768 to 4096 inputs took a tenth to a third longer, weights in place; convolutions do not mind (Zen 3).
_PANEL = dense.L1 * 3 // 4
_SQUARE = 16  # rows of a slice are a multiple: those of an input gradient are transposed by squares, a vector wide
# Rows of a block up to which weights in whole panels are read in place. Else who sweeps a panel copies it first: rows
# of all channels lie far apart, and share a few sets of the caches. Speed of linear layers of 512 and 784 inputs and
# 512 outputs, copied to in place: 16 rows 0.9, 32 1.05, 64 1.1 to 1.2, 128 1.1 to 1.3 (Zen 3).
_IN_PLACE = 16
# A depthwise convolution's items for each thread, blocks times shares of its channels, at least; and rows of a block,
# whose first and last are read twice, at least.
_LANEWISE_ITEMS = 16
_LANEWISE_ROWS = 4
_FORWARD = np.zeros(7, np.int64)  # the phase of what is no input gradient
# Elements of x from which its next block is fetched ahead, evenly over a sweep. On 256 channels of 25 MB that brings a
# tenth to a fifth (Zen 3); on 8 MB and less it takes 5 to 15 % (Emerald Rapids), as each line asked for holds a place
# that a load would have had.
_FAR = 4 * 1024 * 1024
_UNITS = 4  # blocks per task from which the whole of one is an item


class Tables(NamedTuple):
    """Where a block's pixels lie, region by region.

    `a_rows` and `c_rows` are the offsets of pixels in x and y from the block's first; each region is filled up with
    repeats of its last pixel, for the tile that hangs over its end. A row of `regions` is (first and last entry,
    kh0, kh1, kw0, kw1); `kinds[b, t]` is the first and last region of band b in a block of NB images (t = 0) or of
    the images left over at the end of the batch (t = 1).
    """

    a_rows: np.ndarray
    c_rows: np.ndarray
    regions: np.ndarray
    kinds: np.ndarray


@functools.lru_cache(maxsize=512)
def plan(p, dtype, threads):
    """Return (p with its blocks, MR, NV, tables, KHB, RUNB) for a correlation on so many threads; cached."""
    if p.LANEWISE:  # whole pixels, as together their channels are a run of memory
        p = p._replace(NB=1, RB=max(1, min(p.OH, max(_LANEWISE_ROWS, p.N * p.OH // (_LANEWISE_ITEMS * threads)))))
    else:
        p = dense.block(p, dtype, threads)
    mr, nv = _tile(p, dtype)
    width = nv * simd.lanes(dtype) * dtype.itemsize
    taps, run = 1 if _merged(p) else p.KW, _run(p)
    khb = max(1, _PANEL // max(taps * run * width, 1))
    slices = -(-taps * run * width // _PANEL)
    runb = max(64, -(-run // (slices * _SQUARE)) * _SQUARE) if slices > 1 else run
    return p, mr, nv, _tables(p, mr), min(khb, max(p.KH, 1)), max(runb, 1)


def _tile(p, dtype):
    return (lanewise.ROWS, 1) if p.LANEWISE else dense.tile(p.OG, dtype)


def _merged(p):
    """Without dilation (kw, c) is one contiguous run of image and weights, if no other group lies between."""
    return p.DW == 1 and p.G == 1


def _run(p):
    """Return how many weights of an output channel are multiplied in one run."""
    return p.KW * dense.depth(p) if _merged(p) else dense.depth(p)


def _tables(p, mr):
    a_rows, c_rows, found, seen = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [], {}
    kinds = np.zeros((dense.bands(p), 2, 2), np.int64)
    for band in range(dense.bands(p)):
        for half, images in enumerate((p.NB, p.N % p.NB or p.NB)):
            key = dense.regions(p, band), images
            if key not in seen:
                start = len(found)
                for region in key[0]:
                    first = sum(map(len, a_rows))
                    for table, values in zip((a_rows, c_rows), _pixels(p, region, images)):
                        table.append(np.pad(values, (0, -values.size % mr), mode="edge"))
                    found.append((first, first + images * region.rows * region.columns, *region[4:]))
                seen[key] = start, len(found)
            kinds[band, half] = seen[key]
    return Tables(np.concatenate(a_rows), np.concatenate(c_rows), np.array(found, np.int64).reshape(-1, 6), kinds)


def _pixels(p, region, images):
    """Offsets of a region's pixels in x (at tap 0) and in y."""
    n, r, q = (i.ravel() for i in np.indices((images, region.rows, region.columns)))
    if p.LANEWISE:  # a tile of columns down the rows: what it reads of x stays in the first cache (see lanewise)
        order = np.lexsort((q, r, q // lanewise.ROWS, n))
        n, r, q = n[order], r[order], q[order]
    r, q = r + region.r, q + region.q
    return ((n * p.H + r * p.SH) * p.W + q * p.SW) * p.C, n * p.YN + r * p.YH + q * p.YW


def panel_width(p, dtype):
    """Return P, the number of output channels in a panel."""
    return _tile(p, dtype)[1] * simd.lanes(np.dtype(dtype))


def panels_size(p, dtype):
    """Return the elements that the packed weights of a single group take."""
    width = panel_width(p, dtype)
    return -(-p.OG // width) * p.KH * p.KW * p.CG * width


def memory(p, dtype):
    """Return the elements that a panel takes, one for each task, or a depthwise kernel, if weights are no panels."""
    return p.KH * p.KW * p.C if p.LANEWISE else jit.threads() * _panel_size(p, panel_width(p, dtype))


def _panel_size(p, width):
    return -(-p.KH * p.KW * p.CG * width // 16) * 16


def settle(p, ldw, dtype, floor, scratch=None, phase=_FORWARD):
    """Return the function of x, w, bias and y (flat) that fills y with max(bias + correlation of x with w, floor).

    A fifth argument, the output of a ReLU, has y multiplied by that ReLU's slope: see through_relu.

    `w` holds the packed panels of a single group (`ldw` = P), or the weights as they are: with rows of `ldw` channels,
    or with the `phase` of an input gradient (see panels.exchange_panel). Then `scratch` is as large as `memory` says.
    What every call of a geometry repeats is settled once.
    """
    p, mr, nv, tables, khb, runb = plan(p, dtype, jit.threads())
    width = nv * simd.lanes(dtype)
    shares = -(-p.OG // width)
    if p.LANEWISE:  # as few as leave every thread its share: together they are a run of memory
        shares = min(shares, -(-_LANEWISE_ITEMS * jit.threads() // max(dense.blocks(p), 1)))
    items = dense.blocks(p) * p.G * shares
    if not items:
        return lambda x, w, bias, y, gate=None: None
    tasks = min(dense.worth_threads(dense.operations(p)), items)
    in_place = (ldw == width and p.G == 1) or (p.OG % width == 0 and p.NB * p.RB * p.OW <= _IN_PLACE)
    size = 0 if p.LANEWISE or (in_place and phase is _FORWARD) else _panel_size(p, width)
    rooms = scratch[: tasks * size].reshape(tasks, size) if size else np.zeros((tasks, 0), dtype)
    # One panel after another: packed they lie K P apart, in place P apart.
    step = p.KH * p.KW * p.CG * width if ldw == width and not p.LANEWISE else width
    # Whole blocks, if there are some for every task: their panels read the same pixels.
    unit = shares if dense.blocks(p) * p.G >= _UNITS * tasks else 1
    slices = 0 if p.LANEWISE or p.N * p.H * p.W * p.C <= _FAR else -(-p.KH // khb) * -(-_run(p) // runb)
    driver = _driver(max(p.KW, 1) if p.LANEWISE else 0)
    micro = 0 if p.LANEWISE else product(mr, nv, dtype)
    arguments = (np.array([*p, *phase], np.int64), *tables, rooms, width, width // nv, shares, khb, runb, floor, unit,
                 slices, micro, queue(tasks), tasks)

    def run(x, w, bias, y, gate=None):
        driver(x, y, y if gate is None else gate, gate is not None, w, ldw, step, bias, *arguments)

    return run


@functools.cache
def _driver(kw):
    """Make the driver for depthwise kernels of `kw` columns, or with 0 for all that is dense."""
    sweep = lanewise.sweep(kw) if kw else _sweep

    @jit.driver
    def correlate_items(x, y, gate, gated, w, ldw, step, bias, numbers, a_rows, c_rows, regions, kinds, rooms, P, L,
                        shares, khb, runb, floor, unit, slices, micro, waiting, task, tasks):
        p = dense.fields(numbers)
        panels = (p.OG + P - 1) // P
        bands = (p.OH + p.RB - 1) // p.RB
        items = (p.N + p.NB - 1) // p.NB * bands * p.G * shares
        units = (items + unit - 1) // unit
        room, held = rooms[task], -1
        begin = take(waiting, units, task, tasks) * unit
        while begin < items:
            following = upcoming(waiting, units, task, tasks) * unit
            for item in range(begin, min(begin + unit, items)):
                slab, part = item // shares, item % shares
                block, g = slab // p.G, slab % p.G
                n0, band = block // bands * p.NB, block % bands
                first, last = kinds[band, int(n0 + p.NB > p.N)]
                panel, end = share(panels, part, shares)
                a0 = ((n0 * p.H + band * p.RB * p.SH - p.TOP) * p.W - p.LEFT) * p.C + g * p.CG
                o = g * p.OG + panel * P
                y0 = p.Y0 + n0 * p.YN + band * p.RB * p.YH + o
                # The pixels of the task's next block come from memory while this one's are multiplied.
                ahead, ask, after = 0, 0, following // shares // p.G
                if slices and following < items and after != block:
                    rows = regions[last - 1, 1] - regions[first, 0]
                    ahead, ask = dense.ahead_of(numbers, after, rows * slices * unit)
                    ahead += ((item - begin) * rows * slices - regions[first, 0]) * ask
                width, index = min(end * P, p.OG) - panel * P, g * panels + panel
                sweep(x, a0, a_rows, w, index * step, ldw, bias, o, y, y0, c_rows, regions[first:last], width, P, p,
                      khb, runb, floor, ahead, ask, micro, room, held != index, numbers, g, panel * P, L)
                held = index
                if gated:
                    _gate_pixels(y, y0, c_rows, regions[first:last], width, gate)
            begin = take(waiting, units, task, tasks) * unit

    return correlate_items


_take_panel = simd.take_panel(False)


@jit.kernel(from_python=False)
def _fill(w, ldw, numbers, g, c, k, count, width, room, P, L, bias):
    """Fill a room with a panel of a group, the channels from c on: of each tap `count` rows from k on."""
    p, phase = dense.fields(numbers), numbers[numbers.size - _FORWARD.size :]
    if phase[3]:
        exchange_panel(w, phase, p.OG, p.G * p.CG, g * p.CG + k, count, c, width, room, 0, P, L)
    else:
        _take_panel(w, k * ldw + g * p.OG + c, ldw, room, P, p.KH * p.KW * count, bias, 0, width)


@jit.kernel(from_python=False)
def _gate_pixels(y, y0, c_rows, regions, width, gate):
    """Multiply the panel's channels of a block's pixels by ReLU's slope, neighbours in memory together."""
    for region in range(regions.shape[0]):
        row, end = regions[region, 0], regions[region, 1]
        while row < end:
            after = row + 1
            while after < end and c_rows[after] == c_rows[after - 1] + width:
                after += 1
            gate_run(y, y0 + c_rows[row], gate, (after - row) * width)
            row = after


@jit.kernel(from_python=False)
def _sweep(x, a0, a_rows, w, w0, ldw, bias, o, y, y0, c_rows, regions, width, P, p, khb, runb, floor, ahead, ask,
           micro, room, fresh, numbers, g, c, L):
    """Sweep a panel over a block, one slice of the weights (KHB taps, RUNB of a run) after another.

    Panels that are to be copied are copied here. With a single tap each slice is copied when it is swept, and is in the
    first cache then: with the whole panel copied at first 784 to 512 features of 128 rows took 1.05 times as long, 4096
    to 256 of 64 rows 1.3 times (Emerald Rapids).
    """
    merged, copied = p.DW == 1 and p.G == 1, room.size > 0
    by_slices = copied and p.KH * p.KW == 1
    weights, row = w, ldw
    if copied:
        weights, w0, row = room, 0, P
    rows = regions[regions.shape[0] - 1, 1] - regions[0, 0]
    for slice_h in range(0, max(p.KH, 1), khb):
        for slice_k in range(0, max(p.KW * p.CG if merged else p.CG, 1), runb):
            skipped = slice_k if by_slices else 0
            if by_slices or (copied and fresh and slice_h == 0 and slice_k == 0):
                rows_of_tap = min(runb, p.CG - slice_k) if by_slices else p.CG
                _fill(w, ldw, numbers, g, c, skipped, rows_of_tap, width, room, P, L, bias)
            for region in range(regions.shape[0]):
                first, last, kh0, kh1, kw0, kw1 = regions[region]
                taps = 1 if merged else kw1 - kw0
                run = (kw1 - kw0) * p.CG if merged else p.CG
                if kh0 >= kh1 or kw0 >= kw1:  # no taps: what is left is the bias
                    kh0, kh1, kw0, taps, run = 0, 0, 0, 0, 0
                kh, k = max(kh0, slice_h), min(slice_k, run)
                high, count = min(kh1, slice_h + khb) - kh, min(run, slice_k + runb) - k
                begins = kh == kh0 and k == 0 and slice_h <= kh0 and slice_k == 0
                if not begins and (high <= 0 or count <= 0):
                    continue
                lowest = floor if kh + high >= kh1 and k + count >= run else x.dtype.type(-np.inf)
                init, i0, si = y, y0, 1
                if begins:
                    init, i0, si = bias, o, 0
                at, sx = a0 + (kh * p.DH * p.W + kw0 * p.DW) * p.C + k, p.DH * p.W * p.C
                b0, sb, sc = w0 + ((kh * p.KW + kw0) * p.CG + k - skipped) * row, p.KW * p.CG * row, p.CG * row
                multiply(micro, first, last, x, at, a_rows, high, taps, count, sx, p.DW * p.C, 1, weights, b0, sb, sc,
                        row, init, i0, si, y, y0, c_rows, width, lowest, x, ahead + first * ask, ask)
            ahead += rows * ask
