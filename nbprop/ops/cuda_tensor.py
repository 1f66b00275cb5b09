"""A tile's product on tensor cores: operands rounded to TF32 or bfloat16, sums in float32.

A warp makes 8 TM x 4 TN results in fragments of 16 x 8. With g = lane // 4 and q = lane % 4, a thread holds rows g and
g + 8 and columns 2 q and 2 q + 1 of each (PTX manual, "Matrix Fragments for mma.m16n8k8" and "m16n8k16"). It reads
its operands from sa[k, m] and sb[k, n], whose rows are padded so that a warp meets every bank once.

The simulator, which has no warps, adds up what the thread holds; its operands are rounded alike.
"""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_form import Form

__all__ = ["bf16", "tf32"]

if gpu.SIMULATED:

    def round_tf32(x):
        return ((_bits(x) + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)

    def round_bf16(x):
        bits = _bits(x)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)

    def _bits(x):
        return np.asarray(x, np.float32).view(np.uint32).astype(np.int64)

else:
    from llvmlite import ir
    from numba import types

    _F, _I = ir.FloatType(), ir.IntType(32)

    def _assembled(builder, result, code, constraints, args):
        return builder.call(ir.InlineAsm(ir.FunctionType(result, [a.type for a in args]), code, constraints), args)

    @gpu.intrinsic
    def round_tf32(typing_context, x):
        def codegen(context, builder, signature, args):
            return builder.bitcast(_assembled(builder, _I, "cvt.rna.tf32.f32 $0, $1;", "=r,f", args), _F)

        return types.float32(types.float32), codegen

    @gpu.intrinsic
    def two_bf16(typing_context, low, high):
        """Both numbers as bfloat16 in the halves of 32 bits."""

        def codegen(context, builder, signature, args):
            return _assembled(builder, _I, "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f", args[::-1])

        return types.uint32(types.float32, types.float32), codegen

    def _mma(shape_and_types, operand):
        code = (f"mma.sync.aligned.{shape_and_types} {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, {{$8, $9}}, "
                "{$10, $11, $12, $13};")

        @gpu.intrinsic
        def mma(typing_context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
            def codegen(context, builder, signature, args):
                words = [builder.bitcast(v, _I) for v in args[:6]] + list(args[6:])
                constraints = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
                made = _assembled(builder, ir.LiteralStructType([_F] * 4), code, constraints, words)
                return context.make_tuple(builder, signature.return_type,
                                          [builder.extract_value(made, i) for i in range(4)])

            return types.UniTuple(types.float32, 4)(*[operand] * 6, *[types.float32] * 4), codegen

        return mma

    _mma_tf32 = _mma("m16n8k8.row.col.f32.tf32.tf32.f32", types.float32)
    _mma_bf16 = _mma("m16n8k16.row.col.f32.bf16.bf16.f32", types.uint32)


@gpu.device
def _tf32_converted(x):
    return round_tf32(x)


@gpu.device
def _unchanged(x):
    return x


@functools.cache
def tf32(tile, number):
    """The product of operands rounded to TF32, as they are put into shared memory."""
    LA, LB = tile.BM + 8, tile.BN + 8
    row, column = _places(tile)
    step = _summed(tile, LA, LB, row, column, _unchanged) if gpu.SIMULATED else _tf32_step(tile, number, LA, LB)
    return Form(LA, LB, step, row, column, 2, _tf32_converted)


@functools.cache
def bf16(tile, number):
    """The product of operands rounded to bfloat16, as they are read from shared memory."""
    LA, LB = tile.BM + 4, tile.BN + 4
    row, column = _places(tile)
    step = _summed(tile, LA, LB, row, column, round_bf16) if gpu.SIMULATED else _bf16_step(tile, number, LA, LB)
    return Form(LA, LB, step, row, column, 2, _unchanged)


def _places(tile):
    """Make row(t, i) and column(t, j): where results acc[i, 2 j] and acc[i, 2 j + 1] of thread t stand."""
    WM, WN = 8 * tile.TM, 4 * tile.TN
    ACROSS = tile.BN // WN

    @gpu.device
    def row(t, i):
        return t // 32 // ACROSS * WM + i // 2 * 16 + i % 2 * 8 + t % 32 // 4

    @gpu.device
    def column(t, j):
        return t // 32 % ACROSS * WN + j * 8 + t % 4 * 2

    return row, column


def _summed(tile, LA, LB, row, column, rounded):
    """The simulator's form of a step."""
    _, _, BK, TM, TN = tile

    def step(acc, sa, a0, sb, b0, t):
        for i in range(TM):
            for j in range(TN):
                m, n = a0 + row(t, i), b0 + column(t, j // 2) + j % 2
                acc[i, j] += rounded(sa[m : m + BK * LA : LA]) @ rounded(sb[n : n + BK * LB : LB])

    return step


def _fragments_product(mma, MT, NT):
    """Make multiply(acc, a, b): add the products of MT fragments of rows by NT fragments of columns."""

    @gpu.device
    def multiply(acc, a, b):
        for i in range(MT):
            u, d = 2 * i, 2 * i + 1
            for j in range(NT):
                l, r = 2 * j, 2 * j + 1
                acc[u, l], acc[u, r], acc[d, l], acc[d, r] = mma(a[i, 0], a[i, 1], a[i, 2], a[i, 3], b[j, 0], b[j, 1],
                                                                 acc[u, l], acc[u, r], acc[d, l], acc[d, r])

    return multiply


def _tf32_step(tile, number, LA, LB):
    _, BN, BK, TM, TN = tile
    WM, WN, MT, NT = 8 * TM, 4 * TN, TM // 2, TN // 2
    ACROSS = BN // WN
    multiply = _fragments_product(_mma_tf32, MT, NT)

    @gpu.device
    def step(acc, sa, a0, sb, b0, t):
        a = cuda.local.array((MT, 4), number)
        b = cuda.local.array((NT, 2), number)
        g, q = t % 32 // 4, t % 4
        a0 += t // 32 // ACROSS * WM + g + q * LA
        b0 += t // 32 % ACROSS * WN + g + q * LB
        for k in range(0, BK, 8):
            for i in range(MT):
                at = np.uint32(a0 + k * LA + i * 16)
                a[i, 0], a[i, 1] = sa[at], sa[at + np.uint32(8)]
                a[i, 2], a[i, 3] = sa[at + np.uint32(4 * LA)], sa[at + np.uint32(4 * LA + 8)]
            for j in range(NT):
                at = np.uint32(b0 + k * LB + j * 8)
                b[j, 0], b[j, 1] = sb[at], sb[at + np.uint32(4 * LB)]
            multiply(acc, a, b)

    return step


def _bf16_step(tile, number, LA, LB):
    _, BN, BK, TM, TN = tile
    WM, WN, MT, NT = 8 * TM, 4 * TN, TM // 2, TN // 2
    ACROSS = BN // WN
    multiply = _fragments_product(_mma_bf16, MT, NT)

    @gpu.device
    def step(acc, sa, a0, sb, b0, t):
        a = cuda.local.array((MT, 4), gpu.uint32)
        b = cuda.local.array((NT, 2), gpu.uint32)
        g, q = t % 32 // 4, t % 4
        a0 += t // 32 // ACROSS * WM + g + 2 * q * LA
        b0 += t // 32 % ACROSS * WN + g + 2 * q * LB
        for k in range(0, BK, 16):
            for i in range(MT):
                for h in range(2):
                    at = np.uint32(a0 + (k + 8 * h) * LA + i * 16)
                    a[i, 2 * h] = two_bf16(sa[at], sa[at + np.uint32(LA)])
                    a[i, 2 * h + 1] = two_bf16(sa[at + np.uint32(8)], sa[at + np.uint32(LA + 8)])
            for j in range(NT):
                for h in range(2):
                    at = np.uint32(b0 + (k + 8 * h) * LB + j * 8)
                    b[j, h] = two_bf16(sb[at], sb[at + np.uint32(LB)])
            multiply(acc, a, b)

    return step
