"""Four positions of a window against each other, for all channels of a pixel: one vector of channels at a time.

A loop over six channels would leave its vectors unused, and its remainder take longer than the rest: masks keep the
lanes beyond the last channel out.
"""

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbprop.ops import simd

__all__ = ["best_of_four", "give_to_four"]

_INT32 = ir.IntType(32)


@intrinsic
def best_of_four(typingctx, x, p0, p1, p2, p3, i0, i1, i2, i3, y, indices, o, channels, more):
    """Set y[o + c] to the largest of x[p0 + c] .. x[p3 + c], NaN before all, and indices[o + c] to its i0 .. i3.

    The first of equals wins. With `more` they are compared with what y and indices hold, too.
    """
    signature = types.void(x, p0, p1, p2, p3, i0, i1, i2, i3, y, indices, o, channels, more)
    return signature, functools.partial(simd.apart, f"{__name__}.best_of_four", _emit_best)


def _emit_best(context, builder, args):
    x, p0, p1, p2, p3, i0, i1, i2, i3, y, indices, o, channels, more = args
    with _vectors(context, builder, x, channels) as (c, vector, numbers, alive):
        at = builder.add(o, c)
        values = [simd.load(builder, vector, x, builder.add(p, c), 0, alive) for p in (p0, p1, p2, p3)]
        winners = [simd.broadcast(builder, numbers, builder.trunc(i, _INT32)) for i in (i0, i1, i2, i3)]
        more = builder.trunc(more, ir.IntType(1)) if more.type.width > 1 else more
        best = builder.select(more, simd.load(builder, vector, y, at, 0, alive), values[0])
        winner = builder.select(more, simd.load(builder, numbers, indices, at, 0, alive), winners[0])
        for value, mine in zip(values, winners):
            # A NaN beats every number and nothing beats a NaN: not (value <= best), and best is a number.
            beats = builder.and_(builder.fcmp_unordered(">", value, best), builder.fcmp_ordered("ord", best, best))
            best, winner = builder.select(beats, value, best), builder.select(beats, mine, winner)
        simd.store(builder, best, y, at, 0, alive)
        simd.store(builder, winner, indices, at, 0, alive)


@intrinsic
def give_to_four(typingctx, dy, indices, y, o, dx, p0, p1, p2, p3, i0, i1, i2, i3, channels):
    """Set dx[p + c] to dy[o + c] for that one of four positions which indices[o + c] names, and to 0 for the others.

    With a y that is not None, dy is multiplied by ReLU's slope at it.
    """
    signature = types.void(dy, indices, y, o, dx, p0, p1, p2, p3, i0, i1, i2, i3, channels)
    name = f"{__name__}.give_to_four"
    return signature, functools.partial(simd.apart, name, functools.partial(_emit_give, y != types.none))


def _emit_give(relu, context, builder, args):
    dy, indices, y, o, dx, p0, p1, p2, p3, i0, i1, i2, i3, channels = args
    with _vectors(context, builder, dy, channels) as (c, vector, numbers, alive):
        at = builder.add(o, c)
        value = simd.load(builder, vector, dy, at, 0, alive)
        if relu:
            off = builder.fcmp_ordered("<=", simd.load(builder, vector, y, at, 0, alive), ir.Constant(vector, None))
            one = ir.Constant(vector, [1.0] * vector.count)
            value = builder.fmul(value, builder.select(off, ir.Constant(vector, None), one))  # NaN dy stays, as in ReLU
        winner = simd.load(builder, numbers, indices, at, 0, alive)
        for p, i in ((p0, i0), (p1, i1), (p2, i2), (p3, i3)):
            wins = builder.icmp_signed("==", winner, simd.broadcast(builder, numbers, builder.trunc(i, _INT32)))
            simd.store(builder, builder.select(wins, value, ir.Constant(vector, None)), dx, builder.add(p, c), 0, alive)


class _vectors:
    """The loop over vectors of channels: (first channel, float type, integer type, lanes that are channels)."""

    def __init__(self, context, builder, pointer, channels):
        self.builder, self.channels = builder, channels
        lanes = simd.vector_bytes() // context.get_abi_sizeof(pointer.type.pointee)
        self.vector, self.numbers = ir.VectorType(pointer.type.pointee, lanes), ir.VectorType(_INT32, lanes)
        self.loop = cgutils.for_range_slice(builder, simd.int64(0), channels, simd.int64(lanes))

    def __enter__(self):
        c, _ = self.loop.__enter__()
        alive = simd.masks(self.builder, self.builder.sub(self.channels, c), self.vector.count, 1)
        return c, self.vector, self.numbers, alive

    def __exit__(self, *error):
        return self.loop.__exit__(*error)
