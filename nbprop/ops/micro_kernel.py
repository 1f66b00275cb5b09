"""The micro-kernel: one register-blocked product, emitted as LLVM vector IR, under everything dense.

    acc[m][j] = init[m][j] + sum over i0 < n0, i1 < n1, i2 < n2 of
                a[a0 + a_rows[m] + i0 sa0 + i1 sa1 + i2 sa2]              (one number, broadcast)
              * b[b0             + i0 sb0 + i1 sb1 + i2 sb2 + j L .. + L]  (one vector)

with MR x NV accumulators held in registers. A convolution's forward pass runs (i0, i1, i2) over (kh, kw, c) with
m = output pixels and lanes = output channels; its weight gradient over (n, oh, ow) with m = input channels; a
linear layer over (1, 1, k). Offsets and strides count elements.

Each tile size is compiled once for a dtype, and called by its address, so that what drives it is compiled once for all
of them. Made for each size, drivers took a first run on the digits from 11 seconds to 19 (Emerald Rapids).
"""

import functools
import itertools

from numba import from_dtype, types
from numba.core import cgutils, errors
from numba.extending import intrinsic

from nbprop import distribute, jit
from nbprop.ops import simd
from nbprop.ops.simd import int64

__all__ = ["multiply", "product", "resident"]

# The operands of `multiply` that are arrays: their addresses are handed on.
_ELEMENTS, _TABLES = ("a", "b", "init", "c", "ahead"), ("a_rows", "c_rows")
_OPERANDS = ("row", "end", "a", "a0", "a_rows", "n0", "n1", "n2", "sa0", "sa1", "sa2", "b", "b0", "sb0", "sb1", "sb2",
             "init", "i0", "si", "c", "c0", "c_rows", "width", "floor", "ahead", "f0", "run")


@functools.cache
def product(mr, nv, dtype, together=False):
    """Return the address of the micro-kernel with `mr` rows and `nv` vectors of accumulators, for `multiply`.

    With `together` a tile's rows are neighbours in `a`: a_rows[m] = a_rows[0] + m. One pointer then serves them all. To
    tiles of a single vector, a load for each multiply-add, that is much: in the first cache 24x1 runs at 161 GFLOP/s
    for 127, 12x1 at 163 for 132, the larger ones at what they had (Emerald Rapids, one core, 165 GFLOP/s peak).
    """
    return distribute.address(_product(mr, nv, together), (_operands(from_dtype(dtype)),))


def _operands(dtype):
    return types.Tuple([dtype if name == "floor" else types.intp for name in _OPERANDS])


@intrinsic
def multiply(typingctx, address, row, end, a, a0, a_rows, n0, n1, n2, sa0, sa1, sa2, b, b0, sb0, sb1, sb2,
             init, i0, si, c, c0, c_rows, width, floor, ahead, f0, run):
    """Run the micro-kernel at an address.

    The tables `a_rows` and `c_rows` hold one offset per row and are read from their entry `row` on, tile after tile
    until `end` is reached. Rows may repeat (a tile that hangs over the end repeats its last row): each copy computes
    and stores the same numbers. Only the first `width` lanes of `init` and `c` are touched; `b` is read whole.
    The accumulators start as init[i0 + si c_rows[m] + lane], so that si = 0 adds a bias and si = 1 (with init = c)
    adds to what is there; they end as max(acc, floor), NaN kept, in c[c0 + c_rows[m] + lane].

    What is multiplied next can come from memory meanwhile: with each row, `run` more elements of `ahead` are asked for,
    from f0 on.
    """

    if {t.dtype for t in (a, b, init, c, ahead)} != {floor} or {t.dtype for t in (a_rows, c_rows)} != {types.intp}:
        raise errors.TypingError(f"the micro-kernel for {floor} got {a}, {b}, {init}, {c}, {ahead}; {a_rows}, {c_rows}")

    def emit(context, builder, signature, args):
        words = [simd.pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args)]
        words = [builder.ptrtoint(word, int64(0).type) if word.type.is_pointer else word for word in words]
        kind = (_operands(floor),)
        callee = builder.inttoptr(words[0], context.call_conv.get_function_type(types.none, kind).as_pointer())
        operands = context.make_tuple(builder, kind[0], words[1:])
        context.call_conv.call_function(builder, callee, types.none, kind, [operands])
        return context.get_dummy_value()

    return types.void(address, row, end, a, a0, a_rows, n0, n1, n2, sa0, sa1, sa2, b, b0, sb0, sb1, sb2,
                      init, i0, si, c, c0, c_rows, width, floor, ahead, f0, run), emit


@functools.cache
def _product(mr, nv, together):
    """Make the micro-kernel of one tile size."""
    tiles = _tiles(mr, nv, together)

    @jit.kernel(from_python=False)
    def product(*operands):
        tiles(operands)

    return product


@functools.cache
def _tiles(mr, nv, together):
    @intrinsic
    def tiles(typingctx, operands):
        def emit(context, builder, signature, args):
            words = dict(zip(_OPERANDS, cgutils.unpack_tuple(builder, args[0])))
            element = words["floor"].type
            for names, kind in ((_ELEMENTS, element), (_TABLES, int64(0).type)):
                words.update((name, builder.inttoptr(words[name], kind.as_pointer())) for name in names)
            _emit(mr, nv, together, context, builder, words.values())
            return context.get_dummy_value()

        return types.void(operands), emit

    # Kernels that close over it are cached under a hash of its pickle, which holds a random identity; see jit.scalar.
    tiles._set_uuid(f"{__name__}.tiles({mr}, {nv}, {together})")
    return tiles


def _emit(mr, nv, together, context, builder, args):
    """Emit the whole product: tiles one after another, each with its accumulators, three loops and an epilogue."""
    (row, end, a, a0, a_rows, n0, n1, n2, sa0, sa1, sa2, b, b0, sb0, sb1, sb2, init, i0, si,
     c, c0, c_rows, width, floor, ahead, f0, run) = args
    vector = simd.register(context, a)
    acc = [[cgutils.alloca_once(builder, vector) for _ in range(nv)] for _ in range(mr)]
    entries = [*itertools.product(range(mr), range(nv))]
    whole, lowest = builder.icmp_signed("==", width, int64(nv * vector.count)), simd.broadcast(builder, vector, floor)

    with cgutils.for_range_slice(builder, row, end, int64(mr)) as (first, _):
        lefts, targets = ([builder.load(builder.gep(t, [builder.add(first, int64(m))])) for m in range(mr)]
                          for t in (a_rows, c_rows))
        starts = [builder.add(i0, builder.mul(si, r)) for r in targets]
        _fetch_next(builder, first, end, mr, vector, nv, c, c0, c_rows)
        begin = builder.add(f0, builder.mul(builder.sub(first, row), run))
        simd.fetch(builder, ahead, begin, builder.add(begin, builder.mul(run, int64(mr))))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                for m, j in entries:
                    builder.store(simd.load(builder, vector, init, starts[m], j, None), acc[m][j])
            with otherwise:
                some = simd.masks(builder, width, vector.count, nv)
                for m, j in entries:
                    builder.store(simd.load(builder, vector, init, starts[m], j, some), acc[m][j])

        lefts = [builder.gep(a, [builder.add(a0, lefts[0 if together else m])]) for m in range(mr)]
        with simd.rolled(builder, n0) as k0, simd.rolled(builder, n1) as k1:
            ka = builder.add(builder.mul(k0, sa0), builder.mul(k1, sa1))
            kb = builder.add(b0, builder.add(builder.mul(k0, sb0), builder.mul(k1, sb1)))
            with simd.rolled(builder, n2) as k2:
                at_a = builder.add(ka, builder.mul(k2, sa2))
                at_b = builder.add(kb, builder.mul(k2, sb2))
                right = [simd.load(builder, vector, b, at_b, j, None) for j in range(nv)]
                for m in range(mr):
                    at = builder.gep(lefts[m], [at_a])
                    at = builder.gep(at, [int64(m)]) if together else at
                    left = simd.broadcast(builder, vector, builder.load(at))
                    for j in range(nv):
                        builder.store(simd.fmuladd(builder, left, right[j], builder.load(acc[m][j])), acc[m][j])

        results = [[simd.at_least(builder, builder.load(acc[m][j]), lowest) for j in range(nv)] for m in range(mr)]
        targets = [builder.add(c0, r) for r in targets]
        with builder.if_else(whole) as (then, otherwise):
            with then:
                for m, j in entries:
                    simd.store(builder, results[m][j], c, targets[m], j, None)
            with otherwise:
                simd.store_narrow(builder, results, c, targets, width)
        body = builder.block
    simd.keep_rolled(builder, body)


def _fetch_next(builder, first, end, mr, vector, nv, c, c0, c_rows):
    """Ask for the lines of c that the next tile writes, or reads first: it would wait for each of them.

    Zen 3: a stride of 2 from 16 to 32 channels 17 % faster, 3 to 32 10 %, Winograd's products up to 20 %.
    """
    following = builder.add(first, int64(mr))
    following = builder.select(builder.icmp_signed("<", following, end), following, first)
    line = 64 * vector.count // simd.vector_bytes()
    for m in range(mr):
        at = builder.add(c0, builder.load(builder.gep(c_rows, [builder.add(following, int64(m))])))
        for element in range(0, nv * vector.count, line):
            simd.fetch_line(builder, c, builder.add(at, int64(element)), 1, 3)


def resident(rows, depth):
    """Make the micro-kernel for short sums of one vector, c[r][lane] = sum over k < depth of a[r][k] b[k][lane].

    The `depth` vectors of b stay in registers, beside `rows` accumulators that need no start. All rows follow one
    another without a gap, and are served by one pointer: with eight, LLVM found registers for them by finishing two
    rows before the other six (78 to 105 GFLOP/s for 145; Emerald Rapids). Up to `rows` - 1 rows more than `count` are
    computed.
    """

    @intrinsic
    def micro_kernel(typingctx, a, a0, b, b0, c, c0, count):
        signature = types.void(a, a0, b, b0, c, c0, count)
        name = f"{__name__}.resident.{rows}.{depth}"
        return signature, functools.partial(simd.apart, name, functools.partial(_emit_resident, rows, depth))

    return micro_kernel


def _emit_resident(rows, depth, context, builder, args):
    a, a0, b, b0, c, c0, count = args
    vector = simd.register(context, a)
    right = [simd.load(builder, vector, b, b0, k, None) for k in range(depth)]
    with cgutils.for_range_slice(builder, int64(0), count, int64(rows)) as (first, _):
        left = builder.gep(a, [builder.add(a0, builder.mul(first, int64(depth)))])
        target = builder.add(c0, builder.mul(first, int64(vector.count)))
        acc = [None] * rows
        for k in range(depth):
            for m in range(rows):
                one = simd.broadcast(builder, vector, builder.load(builder.gep(left, [int64(m * depth + k)])))
                acc[m] = simd.fmuladd(builder, one, right[k], acc[m]) if k else builder.fmul(one, right[k])
        for m in range(rows):
            simd.store(builder, acc[m], c, target, m, None)
