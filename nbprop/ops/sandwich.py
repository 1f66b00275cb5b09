"""The transforms of Winograd's algorithm: out = M X M^T for a small constant M, on vectors of channels."""

import functools
import itertools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbprop.ops import simd

__all__ = ["clipped", "sandwich"]


@functools.cache
def sandwich(matrix, epilogue=False):
    """Make out[i][l] = sum over k, j of M[i][k] x[k][j] M[l][j], where every x[k][j] is one vector of L channels.

    `matrix` is a tuple of rows. x[k][j] is read at s0 + k sr + j sc, out[i][l] written at d0 + i dr + l dc. With
    `epilogue` the result is max(out + bias[b0 .. b0 + L], floor), NaN kept; without, these three are not given.
    """

    emit = functools.partial(simd.apart, f"{__name__}.{matrix}.{epilogue}", functools.partial(_emit, matrix))

    @intrinsic
    def transform(typingctx, source, s0, sr, sc, target, d0, dr, dc):
        return types.void(source, s0, sr, sc, target, d0, dr, dc), emit

    @intrinsic
    def transform_and_finish(typingctx, source, s0, sr, sc, target, d0, dr, dc, bias, b0, floor):
        return types.void(source, s0, sr, sc, target, d0, dr, dc, bias, b0, floor), emit

    made = transform_and_finish if epilogue else transform
    made._set_uuid(f"{__name__}.sandwich({matrix}, {epilogue})")  # see micro_kernel
    return made


@functools.cache
def clipped(matrix):
    """Make the same without epilogue, for x that lies partly outside an image: zeros stand there.

    Inside are its rows r0 .. r1 - 1 and columns q0 .. q1 - 1, and the first `width` channels. `zeros` is a vector of
    zeros, which is read instead of the others.
    """

    @intrinsic
    def transform(typingctx, source, s0, sr, sc, target, d0, dr, dc, zeros, r0, r1, q0, q1, width):
        signature = types.void(source, s0, sr, sc, target, d0, dr, dc, zeros, r0, r1, q0, q1, width)
        name = f"{__name__}.{matrix}.clipped"
        return signature, functools.partial(simd.apart, name, functools.partial(_emit_clipped, matrix))

    transform._set_uuid(f"{__name__}.clipped({matrix})")  # see micro_kernel
    return transform


def _emit_clipped(matrix, context, builder, args):
    source, s0, sr, sc, target, d0, dr, dc, zeros, r0, r1, q0, q1, width = args
    vector = simd.register(context, source)
    size = len(matrix[0])
    alive = simd.masks(builder, width, vector.count, 1)

    def within(first, stop):
        return [builder.and_(builder.icmp_signed("<=", first, simd.int64(i)),
                             builder.icmp_signed("<", simd.int64(i), stop)) for i in range(size)]

    rows, columns = within(r0, r1), within(q0, q1)

    def read(k, j):
        at = builder.gep(source, [_at(builder, s0, k, sr, j, sc)])
        at = builder.select(builder.and_(rows[k], columns[j]), at, zeros)
        return simd.load(builder, vector, at, simd.int64(0), 0, alive)

    for i, line in enumerate(_both_sides(builder, vector, matrix, read)):
        for l, value in enumerate(line):
            simd.store(builder, value, target, _at(builder, d0, i, dr, l, dc), 0, None)


def _emit(matrix, context, builder, args):
    source, s0, sr, sc, target, d0, dr, dc, *epilogue = args
    vector = simd.register(context, source)
    if epilogue:
        bias, b0, floor = epilogue
        added = simd.load(builder, vector, bias, b0, 0, None)
        lowest = simd.broadcast(builder, vector, floor)

    def read(k, j):
        return simd.load(builder, vector, source, _at(builder, s0, k, sr, j, sc), 0, None)

    for i, line in enumerate(_both_sides(builder, vector, matrix, read)):
        for l, value in enumerate(line):
            if epilogue:
                value = builder.fadd(value, added)
                value = simd.at_least(builder, value, lowest)
            simd.store(builder, value, target, _at(builder, d0, i, dr, l, dc), 0, None)


def _at(builder, start, i, step_i, j, step_j):
    return builder.add(start, builder.add(builder.mul(simd.int64(i), step_i), builder.mul(simd.int64(j), step_j)))


def _both_sides(builder, vector, matrix, read):
    """Yield the rows of M X M^T, with X[k][j] from read(k, j)."""
    size = len(matrix[0])
    # half[j][i] = sum over k of M[i][k] X[k][j]
    half = [_product(builder, vector, matrix, [read(k, j) for k in range(size)]) for j in range(size)]
    for i in range(len(matrix)):
        yield _product(builder, vector, matrix, [half[j][i] for j in range(size)])


def _product(builder, vector, matrix, values):
    """Return M values, one sum for each row; what symmetric points share (1 and -1, 2 and -2) is computed once.

    The powers of two such points differ in the signs of the odd ones alone. Where they stand in two columns, as in A^T,
    the sum and the difference of their values serve every row; where in two rows, as in B^T, the parts of their sums
    with equal and with opposite signs serve both. F(4 x 4) then takes 156 + 100 operations instead of 228 + 140.
    """
    columns = list(zip(*matrix))
    for a, b in _mirrored(columns):
        plus, minus = builder.fadd(values[a], values[b]), builder.fsub(values[a], values[b])
        values = [plus if j == a else minus if j == b else v for j, v in enumerate(values)]
        equal = [x == y for x, y in zip(columns[a], columns[b])]
        columns[a], columns[b] = ([x if same == kept else 0 for x, same in zip(columns[a], equal)]
                                  for kept in (True, False))
    rows = list(zip(*columns))
    sums = [None] * len(rows)
    for a, b in _mirrored(rows):
        even = _combine(builder, vector, [x if x == y else 0 for x, y in zip(rows[a], rows[b])], values)
        odd = _combine(builder, vector, [x if x != y else 0 for x, y in zip(rows[a], rows[b])], values)
        sums[a], sums[b] = builder.fadd(even, odd), builder.fsub(even, odd)
    return [_combine(builder, vector, row, values) if s is None else s for row, s in zip(rows, sums)]


def _mirrored(lines):
    """Return the pairs of lines whose entries are equal or opposite, some of them equal and some opposite."""
    pairs = []
    for (a, x), (b, y) in itertools.combinations(enumerate(lines), 2):
        signs = {p == q for p, q in zip(x, y) if p or q}
        if signs == {True, False} and all(abs(p) == abs(q) for p, q in zip(x, y)):
            pairs.append((a, b))
    return pairs


def _combine(builder, vector, coefficients, values):
    """Sum coefficient times value over the coefficients that are not 0, those of 1 and -1 first: they cost least."""
    terms = sorted(((f, v) for f, v in zip(coefficients, values) if f), key=lambda term: (abs(term[0]) != 1, -term[0]))
    total = None
    for factor, value in terms:
        if total is None:
            total = value if factor == 1 else builder.fmul(value, _constant(vector, factor))
        elif factor in (1, -1):
            total = builder.fadd(total, value) if factor == 1 else builder.fsub(total, value)
        else:
            total = simd.fmuladd(builder, value, _constant(vector, factor), total)
    return total


def _constant(vector, value):
    return ir.Constant(vector, [ir.Constant(vector.element, float(value))] * vector.count)
