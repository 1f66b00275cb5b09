"""The transforms of Winograd's algorithm: out = M X M^T for a small constant M, on vectors of channels."""

import functools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbprop.ops import simd

__all__ = ["sandwich"]


@functools.cache
def sandwich(matrix, epilogue=False):
    """Make out[i][l] = sum over k, j of M[i][k] x[k][j] M[l][j], where every x[k][j] is one vector of L channels.

    `matrix` is a tuple of rows. x[k][j] is read at s0 + k sr + j sc, out[i][l] written at d0 + i dr + l dc. With
    `epilogue` the result is max(out + bias[b0 .. b0 + L], floor), NaN kept.
    """

    @intrinsic
    def transform(typingctx, source, s0, sr, sc, target, d0, dr, dc, bias, b0, floor):
        signature = types.void(source, s0, sr, sc, target, d0, dr, dc, bias, b0, floor)
        name = f"{__name__}.{matrix}.{epilogue}"
        return signature, functools.partial(simd.apart, name, functools.partial(_emit, matrix, epilogue))

    transform._set_uuid(f"{__name__}.sandwich({matrix}, {epilogue})")  # see simd.product
    return transform


def _emit(matrix, epilogue, context, builder, args):
    source, s0, sr, sc, target, d0, dr, dc, bias, b0, floor = args
    element = source.type.pointee
    vector = ir.VectorType(element, simd.vector_bytes() // context.get_abi_sizeof(element))

    def at(start, i, step_i, j, step_j):
        return builder.add(start, builder.add(builder.mul(simd.int64(i), step_i), builder.mul(simd.int64(j), step_j)))

    size = len(matrix[0])
    half = []  # half[j][i] = sum over k of M[i][k] x[k][j]
    for j in range(size):
        column = [simd.load(builder, vector, source, at(s0, k, sr, j, sc), 0, None) for k in range(size)]
        half.append([_combine(builder, vector, row, column) for row in matrix])
    if epilogue:
        added = simd.load(builder, vector, bias, b0, 0, None)
        lowest = simd.broadcast(builder, vector, floor)
    for i in range(len(matrix)):
        for l, row in enumerate(matrix):
            value = _combine(builder, vector, row, [half[j][i] for j in range(size)])
            if epilogue:
                value = builder.fadd(value, added)
                value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)
            where = builder.bitcast(builder.gep(target, [at(d0, i, dr, l, dc)]), vector.as_pointer())
            builder.store(value, where, align=element_bytes(element))


def element_bytes(element):
    """Return 4 or 8."""
    return 4 if isinstance(element, ir.FloatType) else 8


def _combine(builder, vector, coefficients, values):
    """Sum coefficient times value over the coefficients that are not 0."""
    total = None
    for factor, value in zip(coefficients, values):
        if factor == 0:
            continue
        if total is None:
            total = value if factor == 1 else builder.fmul(value, _constant(vector, factor))
        elif factor in (1, -1):
            total = builder.fadd(total, value) if factor == 1 else builder.fsub(total, value)
        else:
            total = simd.fmuladd(builder, value, _constant(vector, factor), total)
    return total


def _constant(vector, value):
    return ir.Constant(vector, [ir.Constant(vector.element, float(value))] * vector.count)
