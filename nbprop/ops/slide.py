"""The weight gradient of a depthwise kernel that moves by one column at a time: each pixel is loaded once.

A column of x meets KW columns of dy, which stay in registers and move on by one (three taps, two rows of the kernel):

    dw[0][0] += x0 d0    dw[0][1] += x0 d1    dw[0][2] += x0 d2        d0 = dy[i + LEFT], d1 = dy[i + LEFT - 1], ...
    dw[1][0] += x1 d0    dw[1][1] += x1 d1    dw[1][2] += x1 d2        where dy ends they are zeros

For 3 x 3 taps that are 4 loads for 9 multiply-adds; loading an x for each takes 10, and up to twice as long (Emerald
Rapids). As with every zero that is multiplied, NaN and infinity in x beside an edge reach the taps beyond it too.
"""

import functools

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbprop import jit
from nbprop.ops import simd

__all__ = ["fits", "sweep"]

_COLUMNS = 7  # columns of the kernel at most: a sum and a pixel of dy for each
# A first cache of 32 KiB: 64 sets of 8 lines, each of 64 bytes; and the fewest columns of a strip. One vector of each
# pixel, 256 bytes apart say, lies in few of the sets: those of a whole row of 56 pixels were gone before the next row
# of taps came to them. Strips of 28 columns are 1.04 times as fast, of 14 1.10, of 8 1.16 (Emerald Rapids).
_SETS, _WAYS, _LINE, _FEWEST = 64, 8, 64, 8


def fits(p):
    """Say whether a correlation moves so."""
    return p.SW == p.DW == 1 and p.LEFT >= 0 and 1 <= p.KW <= _COLUMNS


@jit.scalar
def _strip(p, itemsize, lines):
    """Return the columns of x to take at a time, so that a vector of each stays in half the sets that it may lie in.

    So many `lines` of each column do, those of x and one of dy.
    """
    apart = p.C * itemsize
    sets = min(_SETS * _LINE // (apart & -apart), _SETS)
    most = max(_WAYS * sets // (2 * lines), _FEWEST)
    strips = max((p.W + most - 1) // most, 1)
    return max((p.W + strips - 1) // strips, 1)


@functools.cache
def sweep(kw, most):
    """Make the sweep of a band for kernels of `kw` columns, at most `most` of their rows at once."""
    several = max(1, min(most, (simd.registers() - kw - 1) // kw))
    rows, row = _product(several, kw), _product(1, kw)

    @jit.kernel
    def sweep(x, dy, n, oh, regions, p, o, width, a_rows, sums, c_rows):
        line, strip = p.W * p.C, _strip(p, x.itemsize, several + 1)
        for region in range(regions.shape[0]):
            r, count, q, _, first, kh1, _, _ = regions[region]
            if q > 0:  # rows of the band are swept whole, with the region that they begin in
                continue
            b0 = (n * p.OH + oh + r) * p.OW * p.C + o
            for start in range(0, p.W, strip):
                left, columns, kh = p.LEFT + start, min(strip, p.W - start), first
                while kh < kh1:
                    a0 = ((n * p.H + (oh + r) * p.SH + kh * p.DH - p.TOP) * p.W + start) * p.C + o
                    at = kh * p.KW * p.C + o
                    if kh + several <= kh1:
                        rows(x, a0, count, p.SH * line, p.DH * line, columns, dy, b0, p.OW, left, sums, at, p.C, width)
                        kh += several
                    else:
                        row(x, a0, count, p.SH * line, p.DH * line, columns, dy, b0, p.OW, left, sums, at, p.C, width)
                        kh += 1

    return sweep


@functools.cache
def _product(kh, kw):
    """Make the product for kh rows of taps: c[t][u] += sum over r < count, i of a[r][t][i] b[r][i + left - u].

    Rows of the image a are `sa` apart from r to r, `st` from tap to tap, those of b follow one another; they have W
    and OW pixels of C channels. `channels` of them are summed, vector by vector; taps in c are C apart.
    """

    @intrinsic
    def product(typingctx, a, a0, count, sa, st, W, b, b0, OW, left, c, c0, C, channels):
        signature = types.void(a, a0, count, sa, st, W, b, b0, OW, left, c, c0, C, channels)
        name = f"{__name__}.product.{kh}.{kw}"
        return signature, functools.partial(simd.apart, name, functools.partial(_emit, kh, kw))

    product._set_uuid(f"{__name__}.product({kh}, {kw})")  # see micro_kernel
    return product


def _emit(kh, kw, context, builder, args):
    a, a0, count, sa, st, W, b, b0, OW, left, c, c0, C, channels = args
    int64, vector = simd.int64, simd.register(context, a)
    acc = [[cgutils.alloca_once(builder, vector) for _ in range(kw)] for _ in range(kh)]
    seen = [cgutils.alloca_once(builder, vector) for _ in range(kw)]
    targets = [builder.add(c0, builder.mul(C, int64(t))) for t in range(kh * kw)]
    zero = int64(0)
    # Columns of x from 0 on that meet a new pixel of dy; the rest meets those seen before.
    fresh = _least(builder, W, _most(builder, builder.sub(OW, left), zero))

    def column(at_a, new, alive):
        builder.store(new, seen[0])
        for t in range(kh):
            value = simd.load(builder, vector, a, builder.add(at_a, builder.mul(st, int64(t))), 0, alive)
            for u in range(kw):
                builder.store(simd.fmuladd(builder, value, builder.load(seen[u]), builder.load(acc[t][u])), acc[t][u])
        for u in range(kw - 1, 0, -1):
            builder.store(builder.load(seen[u - 1]), seen[u])

    def sums(channel, lanes, alive):
        flat = [total for row in acc for total in row]
        for target, total in zip(targets, flat):
            builder.store(simd.load(builder, vector, c, builder.add(target, channel), 0, alive), total)
        with simd.rolled(builder, count) as r:
            at_a = builder.add(builder.add(a0, channel), builder.mul(r, sa))
            at_b = builder.add(builder.add(b0, channel), builder.mul(r, builder.mul(OW, C)))
            for u in range(1, kw):
                before = builder.sub(left, int64(u))
                inside = builder.and_(builder.icmp_signed(">=", before, zero), builder.icmp_signed("<", before, OW))
                some = simd.masks(builder, builder.select(inside, lanes, zero), vector.count, 1)
                value = simd.load(builder, vector, b, builder.add(at_b, builder.mul(before, C)), 0, some)
                builder.store(value, seen[u])
            begin = builder.add(at_b, builder.mul(left, C))
            with simd.rolled(builder, fresh) as i:
                step = builder.mul(i, C)
                new = simd.load(builder, vector, b, builder.add(begin, step), 0, alive)
                column(builder.add(at_a, step), new, alive)
            at_a = builder.add(at_a, builder.mul(fresh, C))
            with simd.rolled(builder, builder.sub(W, fresh)) as i:
                column(builder.add(at_a, builder.mul(i, C)), simd.zeros(vector), alive)
        return [builder.load(total) for total in flat]

    simd.by_vector(builder, vector, channels, c, targets, sums)


def _most(builder, x, y):
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def _least(builder, x, y):
    return builder.select(builder.icmp_signed("<", x, y), x, y)
