"""A depthwise correlation: a channel per lane, as channels do not mix.

Each multiply-add loads a vector of x of its own, so that two loads per cycle are the limit: what counts is that nothing
else has to be loaded. A tile is ROWS pixels by one vector of channels, its accumulators, row pointers and the offsets
of a row of taps all stay in registers, and a tile's channels follow one another, in the order of memory. The tile below
comes next: its rows are in the first cache but for one. Along the rows, whose three are 43 KiB of 56 pixels of 64
channels, a pass over 8 images took 1.17 times as long (Emerald Rapids).
"""

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbprop import jit
from nbprop.ops import simd

__all__ = ["ROWS", "sweep"]

# Pixels per tile: 8 pointers and 3 offsets are in 16 general registers, and 8 sums hide a multiply-add's 4 cycles.
ROWS = 8
# Elements of x from which its next row is fetched ahead: read three times over in small steps, it is not foreseen. On
# 8 images of 56 x 56 x 64 that takes a sixth off (Zen 3), on one of 28 x 28, which is in L2, it adds half.
_FAR = 256 * 1024
_UNROLLED = 7  # taps in a row of the kernel at most, written one after another


@functools.cache
def _product(taps):
    """Make the product of ROWS pixels at a time, c[m][lane] = max(init + sum of a[m][lane] b[lane], floor).

    `a_rows` and `c_rows` hold the pixels' offsets, those of a tile from entry `row` on, until `end`. The sum runs over
    n taps in steps of (sn of a, bn of b), and in each over `taps` of them in steps of (st, bt); with `taps` = 0 over
    `count`. All channels follow, vector by vector. Where x is `far`, what the pixels meet next, a row further on, is
    fetched.
    """

    @intrinsic
    def product(typingctx, row, end, a, a0, a_rows, n, sn, count, st, b, b0, bn, bt, init, i0, c, c0, c_rows,
                channels, floor, far):
        signature = types.void(row, end, a, a0, a_rows, n, sn, count, st, b, b0, bn, bt, init, i0, c, c0, c_rows,
                               channels, floor, far)
        return signature, functools.partial(simd.apart, f"{__name__}.product.{taps}", functools.partial(_emit, taps))

    product._set_uuid(f"{__name__}.product({taps})")  # see micro_kernel
    return product


def _emit(taps, context, builder, args):
    row, end, a, a0, a_rows, n, sn, count, st, b, b0, bn, bt, init, i0, c, c0, c_rows, channels, floor, far = args
    int64 = simd.int64
    vector = simd.register(context, a)
    lowest = simd.broadcast(builder, vector, floor)
    acc = [cgutils.alloca_once(builder, vector) for _ in range(ROWS)]

    def tap(left, at_a, at_b, alive):
        at_a = _opaque(builder, at_a)
        right = simd.load(builder, vector, b, at_b, 0, alive)
        for m in range(ROWS):
            value = simd.load(builder, vector, left[m], at_a, 0, alive)
            builder.store(simd.fmuladd(builder, value, right, builder.load(acc[m])), acc[m])

    def sums(left, channel, lanes, alive):
        start = simd.load(builder, vector, init, builder.add(i0, channel), 0, alive)
        for m in range(ROWS):
            builder.store(start, acc[m])
        with simd.rolled(builder, n) as k:
            at_a = builder.add(channel, builder.mul(k, sn))
            at_b = builder.add(builder.add(b0, channel), builder.mul(k, bn))
            for t in range(taps):
                tap(left, builder.add(at_a, builder.mul(st, int64(t))), builder.add(at_b, builder.mul(bt, int64(t))),
                    alive)
            if not taps:
                with simd.rolled(builder, count) as t:
                    tap(left, builder.add(at_a, builder.mul(st, t)), builder.add(at_b, builder.mul(bt, t)), alive)
        return [simd.at_least(builder, builder.load(each), lowest) for each in acc]

    with cgutils.for_range_slice(builder, row, end, int64(ROWS)) as (first, _):
        left, right = ([builder.load(builder.gep(t, [builder.add(first, int64(m))])) for m in range(ROWS)]
                       for t in (a_rows, c_rows))
        # A tile in one row, that is: of an edge's column, or at the end of a row, this would be rows and rows.
        near = builder.icmp_signed("<", builder.sub(left[-1], left[0]), builder.mul(channels, int64(4 * ROWS)))
        with builder.if_then(builder.and_(far, near)):
            following = builder.add(a0, builder.mul(n, sn))
            simd.fetch(builder, a, builder.add(following, left[0]),
                       builder.add(following, builder.add(left[-1], channels)))
        left, right = [builder.gep(a, [builder.add(a0, r)]) for r in left], [builder.add(c0, r) for r in right]
        simd.by_vector(builder, vector, channels, c, right, functools.partial(sums, left))


def _opaque(builder, number):
    """Return `number` as one that LLVM knows nothing of.

    Else it follows each row's pointer to each tap through the loop, 24 of them for three taps, which 16 general
    registers do not hold: most were read back from the stack, and written.
    """
    same = ir.InlineAsm(ir.FunctionType(number.type, [number.type]), "", "=r,0")
    return builder.call(same, [number])


@functools.cache
def sweep(kw):
    """Make the sweep of a block of pixels for kernels of `kw` columns, which fetches its pixels itself."""
    whole, part = _product(kw if kw <= _UNROLLED else 0), _product(0)

    @jit.kernel
    def sweep(x, a0, a_rows, w, w0, ldw, bias, o, y, y0, c_rows, regions, width, P, p, khb, runb, floor, ahead, ask,
              micro, room, fresh, numbers, g, c, L):
        sh, sw, far = p.DH * p.W * p.C, p.DW * p.C, p.N * p.H * p.W * p.C > _FAR
        for region in range(regions.shape[0]):
            first, last, kh0, kh1, kw0, kw1 = regions[region]
            a, b, count = a0 + o + kh0 * sh + kw0 * sw, w0 + (kh0 * p.KW + kw0) * ldw, kw1 - kw0
            if count == p.KW:
                whole(first, last, x, a, a_rows, kh1 - kh0, sh, count, sw, w, b, p.KW * ldw, ldw, bias, o,
                      y, y0, c_rows, width, floor, far)
            else:
                part(first, last, x, a, a_rows, kh1 - kh0, sh, count, sw, w, b, p.KW * ldw, ldw, bias, o,
                     y, y0, c_rows, width, floor, far)

    return sweep
