"""Four positions of a window against each other, for all channels of a pixel: one vector of channels at a time.

A loop over six channels would leave its vectors unused, and its remainder take longer than the rest: the last vector
leaves the lanes beyond the last channel out.
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
def best_of_four(typingctx, x, p0, p1, p2, p3, i0, i1, i2, i3, y, indices, o, channels, more, windows, step):
    """Set y[o + c] to the largest of x[p0 + c] .. x[p3 + c], NaN before all, and indices[o + c] to its i0 .. i3.

    The first of equals wins. With `more` they are compared with what y and indices hold, too. So for that many
    `windows` side by side, whose positions lie `step` pixels further each.
    """
    signature = types.void(x, p0, p1, p2, p3, i0, i1, i2, i3, y, indices, o, channels, more, windows, step)
    return signature, functools.partial(simd.apart, f"{__name__}.best_of_four", _emit_best)


def _emit_best(context, builder, args):
    x, p0, p1, p2, p3, i0, i1, i2, i3, y, indices, o, channels, more, windows, step = args
    more = builder.trunc(more, ir.IntType(1)) if more.type.width > 1 else more

    def compare(c, at, pixels, vector, numbers, alive, width):
        at, c = builder.add(o, at), builder.add(builder.mul(pixels, channels), c)
        values = [simd.load(builder, vector, x, builder.add(p, c), 0, alive) for p in (p0, p1, p2, p3)]
        winners = [_index(builder, numbers, i, pixels) for i in (i0, i1, i2, i3)]
        best = builder.select(more, simd.load(builder, vector, y, at, 0, alive), values[0])
        winner = builder.select(more, simd.load(builder, numbers, indices, at, 0, alive), winners[0])
        for value, mine in zip(values, winners):
            # A NaN beats every number and nothing beats a NaN: not (value <= best), and best is a number.
            beats = builder.and_(builder.fcmp_unordered(">", value, best), builder.fcmp_ordered("ord", best, best))
            best, winner = builder.select(beats, value, best), builder.select(beats, mine, winner)
        _store(builder, best, y, at, width)
        _store(builder, winner, indices, at, width)

    _for_vectors(context, builder, x, channels, windows, step, compare)


@intrinsic
def give_to_four(typingctx, dy, indices, y, o, dx, p0, p1, p2, p3, i0, i1, i2, i3, channels, windows, step):
    """Set dx[p + c] to dy[o + c] for that one of four positions which indices[o + c] names, and to 0 for the others.

    With a y that is not None, dy is multiplied by ReLU's slope at it. `windows` and `step` as in `best_of_four`.
    """
    signature = types.void(dy, indices, y, o, dx, p0, p1, p2, p3, i0, i1, i2, i3, channels, windows, step)
    name = f"{__name__}.give_to_four"
    return signature, functools.partial(simd.apart, name, functools.partial(_emit_give, y != types.none))


def _emit_give(relu, context, builder, args):
    dy, indices, y, o, dx, p0, p1, p2, p3, i0, i1, i2, i3, channels, windows, step = args

    def give(c, at, pixels, vector, numbers, alive, width):
        at, c = builder.add(o, at), builder.add(builder.mul(pixels, channels), c)
        value = simd.load(builder, vector, dy, at, 0, alive)
        if relu:
            off = builder.fcmp_ordered("<=", simd.load(builder, vector, y, at, 0, alive), ir.Constant(vector, None))
            one = ir.Constant(vector, [1.0] * vector.count)
            value = builder.fmul(value, builder.select(off, ir.Constant(vector, None), one))  # NaN dy stays, as in ReLU
        winner = simd.load(builder, numbers, indices, at, 0, alive)
        for p, i in ((p0, i0), (p1, i1), (p2, i2), (p3, i3)):
            wins = builder.icmp_signed("==", winner, _index(builder, numbers, i, pixels))
            _store(builder, builder.select(wins, value, ir.Constant(vector, None)), dx, builder.add(p, c), width)

    _for_vectors(context, builder, dy, channels, windows, step, give)


def _index(builder, numbers, i, pixels):
    return simd.broadcast(builder, numbers, builder.trunc(builder.add(i, pixels), _INT32))


def _store(builder, value, base, start, width):
    """Store a whole vector, or the first `width` lanes."""
    if width is None:
        simd.store(builder, value, base, start, 0, None)
    else:
        simd.store_narrow(builder, [[value]], base, [start], width)


def _for_vectors(context, builder, pointer, channels, windows, step, body):
    """Loop over windows and vectors of channels.

    `body` takes the first channel, where it lies in y, how many pixels the window lies beyond the first one, the types
    of floats and of integers, and for the last vector which lanes are channels, and their number: else None.
    """
    lanes = simd.vector_bytes() // context.get_abi_sizeof(pointer.type.pointee)
    vector, numbers = ir.VectorType(pointer.type.pointee, lanes), ir.VectorType(_INT32, lanes)
    whole = builder.and_(channels, simd.int64(-lanes))
    left = builder.sub(channels, whole)
    alive = simd.masks(builder, left, lanes, 1)
    with cgutils.for_range(builder, windows) as window:
        pixels, at = builder.mul(window.index, step), builder.mul(window.index, channels)
        with cgutils.for_range_slice(builder, simd.int64(0), whole, simd.int64(lanes)) as (c, _):
            body(c, builder.add(at, c), pixels, vector, numbers, None, None)
        with builder.if_then(builder.icmp_signed(">", left, simd.int64(0))):
            body(whole, builder.add(at, whole), pixels, vector, numbers, alive, left)
