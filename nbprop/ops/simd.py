"""The micro-kernel: one register-blocked product, emitted as LLVM vector IR, under everything dense.

    acc[m][j] = init[m][j] + sum over i0 < n0, i1 < n1, i2 < n2 of
                a[a0 + a_rows[m] + i0 sa0 + i1 sa1 + i2 sa2]              (one number, broadcast)
              * b[b0             + i0 sb0 + i1 sb1 + i2 sb2 + j L .. + L]  (one vector)

with MR x NV accumulators held in registers. A convolution's forward pass runs (i0, i1, i2) over (kh, kw, c) with
m = output pixels and lanes = output channels; its weight gradient over (n, oh, ow) with m = input channels; a
linear layer over (1, 1, k). Offsets and strides count elements.
"""

import functools

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = ["apart", "broadcast", "clear", "copy", "fmuladd", "int64", "lanes", "load", "masks",
           "pointer_or_number", "prefetch", "product", "registers", "store", "transpose_square", "vector_bytes"]

# LLVM's name of an element, and its bytes.
_ELEMENTS = {ir.FloatType(): ("f32", 4), ir.DoubleType(): ("f64", 8), ir.IntType(32): ("i32", 4)}


@functools.cache
def vector_bytes() -> int:
    """Return the width of the host's vector registers in bytes: 64, 32 or 16.

    LLVM itself is asked, by looking at which registers it adds sixteen floats in, for the processor that Numba
    compiles for: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES rule here too.
    """
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    add = ir.Function(module, ir.FunctionType(vector, [vector, vector]), "add")
    builder = ir.IRBuilder(add.append_basic_block())
    builder.ret(builder.fadd(*add.args))
    options = {}
    cpu_target.target_context.codegen()._customize_tm_options(options)
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=options["cpu"], features=options["features"])
    assembly = machine.emit_assembly(llvm.parse_assembly(str(module)))
    return 64 if "zmm" in assembly else 32 if "ymm" in assembly else 16


@functools.cache
def registers() -> int:
    """Return how many vector registers the processor has: 32 with AVX-512 or on Arm, 16 with AVX2 or SSE."""
    arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))
    return 32 if arm or vector_bytes() == 64 else 16


def lanes(dtype) -> int:
    """Return L, the number of elements of `dtype` in one vector register."""
    return vector_bytes() // dtype.itemsize


@functools.cache
def product(mr, nv, masked, lanewise=False):
    """Make the micro-kernel with `mr` rows and `nv` vectors of accumulators.

    With `lanewise` each lane has its own `a`, a vector a[... + j L .. + L] instead of one broadcast number: the
    product of a depthwise convolution, whose channels do not mix.

    The tables `a_rows` and `c_rows` hold one offset per row and are read from their entry `row` on. Rows may repeat
    (a tile that hangs over the end repeats its last row): each copy computes and stores the same numbers. Only the
    first `width` lanes of `init` and `c` are touched, and with `masked` of `b` too; without it `b` is read whole.
    The accumulators start as init[i0 + si c_rows[m] + lane], so that si = 0 adds a bias and si = 1 (with init = c)
    adds to what is there; they end as max(acc, floor), NaN kept, in c[c0 + c_rows[m] + lane].
    """

    @intrinsic
    def micro_kernel(typingctx, row, a, a0, a_rows, n0, n1, n2, sa0, sa1, sa2, b, b0, sb0, sb1, sb2, init, i0, si,
                     c, c0, c_rows, width, floor):
        signature = types.void(row, a, a0, a_rows, n0, n1, n2, sa0, sa1, sa2, b, b0, sb0, sb1, sb2, init, i0, si,
                               c, c0, c_rows, width, floor)
        name = f"{__name__}.product.{mr}.{nv}.{masked}.{lanewise}"
        return signature, functools.partial(apart, name, functools.partial(_emit, mr, nv, masked, lanewise))

    # Kernels that close over it are cached under a hash of its pickle, which holds a random identity; see jit.scalar.
    micro_kernel._set_uuid(f"{__name__}.product({mr}, {nv}, {masked}, {lanewise})")
    return micro_kernel


@functools.cache
def resident(rows, depth):
    """Make the micro-kernel for short sums, c[r][lane] = sum over k < depth of a[r][k] b[k][lane].

    The `depth` vectors of b stay in registers, beside `rows` accumulators that need no start. Rows of a and c follow
    one another `sa` and `sc` apart, `rows` at a time: up to `rows` - 1 more than `count` are computed.
    """

    @intrinsic
    def micro_kernel(typingctx, a, a0, sa, b, b0, sb, c, c0, sc, count):
        signature = types.void(a, a0, sa, b, b0, sb, c, c0, sc, count)
        name = f"{__name__}.resident.{rows}.{depth}"
        return signature, functools.partial(apart, name, functools.partial(_emit_resident, rows, depth))

    micro_kernel._set_uuid(f"{__name__}.resident({rows}, {depth})")  # see product
    return micro_kernel


def _emit_resident(rows, depth, context, builder, args):
    a, a0, sa, b, b0, sb, c, c0, sc, count = args
    vector = ir.VectorType(a.type.pointee, vector_bytes() // context.get_abi_sizeof(a.type.pointee))
    right = [load(builder, vector, b, builder.add(b0, builder.mul(sb, int64(k))), 0, None) for k in range(depth)]
    with cgutils.for_range_slice(builder, int64(0), count, int64(rows)) as (first, _):
        at = [builder.add(first, int64(m)) for m in range(rows)]
        left = [builder.gep(a, [builder.add(a0, builder.mul(sa, r))]) for r in at]
        acc = [None] * rows
        for k in range(depth):
            for m in range(rows):
                one = broadcast(builder, vector, builder.load(builder.gep(left[m], [int64(k)])))
                acc[m] = fmuladd(builder, one, right[k], acc[m]) if k else builder.fmul(one, right[k])
        for m in range(rows):
            where = _vector_at(builder, vector, c, builder.add(c0, builder.mul(sc, at[m])), 0)
            builder.store(acc[m], where, align=_bytes(vector))


def apart(name, emit, context, builder, signature, args):
    """Emit the call of a function of its own with the body that `emit(context, builder, args)` writes.

    A body of hundreds of instructions that is inlined into each caller, and with that into its callers, would be
    optimised again for each: a tenth of the run, most of the time to compile.
    """
    args = [pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args)]
    kinds = [a.type for a in args]
    name = ".".join([name, *(str(k) for k in kinds)])
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        emit(context, inner, function.args)
        inner.ret_void()
    builder.call(function, args)
    return context.get_dummy_value()


def _emit(mr, nv, masked, lanewise, context, builder, args):
    """Emit the whole product: set the accumulators, three loops, epilogue."""
    (row, a, a0, a_rows, n0, n1, n2, sa0, sa1, sa2, b, b0, sb0, sb1, sb2, init, i0, si,
     c, c0, c_rows, width, floor) = args
    vector = ir.VectorType(a.type.pointee, vector_bytes() // context.get_abi_sizeof(a.type.pointee))
    alive = masks(builder, width, vector.count, nv)
    a_rows, c_rows = ([builder.load(builder.gep(t, [builder.add(row, int64(m))])) for m in range(mr)]
                      for t in (a_rows, c_rows))

    acc = [[cgutils.alloca_once(builder, vector) for _ in range(nv)] for _ in range(mr)]
    for m in range(mr):
        start = builder.add(i0, builder.mul(si, c_rows[m]))
        for j in range(nv):
            builder.store(load(builder, vector, init, start, j, alive), acc[m][j])

    a_rows = [builder.gep(a, [builder.add(a0, r)]) for r in a_rows]
    with cgutils.for_range(builder, n0) as loop0, cgutils.for_range(builder, n1) as loop1:
        ka = builder.add(builder.mul(loop0.index, sa0), builder.mul(loop1.index, sa1))
        kb = builder.add(b0, builder.add(builder.mul(loop0.index, sb0), builder.mul(loop1.index, sb1)))
        with cgutils.for_range(builder, n2) as loop2:
            at_a = builder.add(ka, builder.mul(loop2.index, sa2))
            at_b = builder.add(kb, builder.mul(loop2.index, sb2))
            known = alive if masked else None
            right = [load(builder, vector, b, at_b, j, known) for j in range(nv)]
            for m in range(mr):
                if lanewise:
                    left = [load(builder, vector, a_rows[m], at_a, j, known) for j in range(nv)]
                else:
                    left = [broadcast(builder, vector, builder.load(builder.gep(a_rows[m], [at_a])))] * nv
                for j in range(nv):
                    builder.store(fmuladd(builder, left[j], right[j], builder.load(acc[m][j])), acc[m][j])

    lowest = broadcast(builder, vector, floor)
    for m in range(mr):
        for j in range(nv):
            value = builder.load(acc[m][j])
            # value < floor is false for NaN, which therefore stays.
            value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)
            store(builder, value, c, builder.add(c0, c_rows[m]), j, alive)


@intrinsic
def transpose_square(typingctx, source, start, stride, target, at, step):
    """Transpose L x L elements: target[at + j step + i] = source[start + i stride + j], in registers."""

    def emit(context, builder, signature, args):
        source, start, stride, target, at, step = (
            pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args))
        element = source.type.pointee
        size = vector_bytes() // context.get_abi_sizeof(element)
        vector = ir.VectorType(element, size)
        rows = [load(builder, vector, source, builder.add(start, builder.mul(stride, int64(i))), 0, None)
                for i in range(size)]
        distance = 1
        while distance < size:  # exchange the off-diagonal blocks of 1, 2, 4, ... elements
            for i in (i for i in range(size) if not i & distance):
                upper, lower = rows[i], rows[i + distance]
                rows[i] = _shuffle(builder, upper, lower, [
                    size + l - distance if l & distance else l for l in range(size)])
                rows[i + distance] = _shuffle(builder, upper, lower, [
                    size + l if l & distance else l + distance for l in range(size)])
            distance *= 2
        for j in range(size):
            where = _vector_at(builder, vector, target, builder.add(at, builder.mul(step, int64(j))), 0)
            builder.store(rows[j], where, align=_bytes(vector))
        return context.get_dummy_value()

    return types.void(source, start, stride, target, at, step), emit


@intrinsic
def copy(typingctx, source, start, target, at, count):
    """Copy: target[at + i] = source[start + i] for i < count. A loop or a slice says the same, slower to compile."""

    def emit(context, builder, signature, args):
        source, start, target, at, count = (
            pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args))
        size = context.get_abi_sizeof(source.type.pointee)
        cgutils.raw_memcpy(builder, builder.gep(target, [at]), builder.gep(source, [start]), count, size)
        return context.get_dummy_value()

    return types.void(source, start, target, at, count), emit


@intrinsic
def clear(typingctx, target, at, count):
    """Set to zero: target[at + i] = 0 for i < count."""

    def emit(context, builder, signature, args):
        target, at, count = (pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args))
        size = context.get_abi_sizeof(target.type.pointee)
        cgutils.memset(builder, builder.gep(target, [at]), builder.mul(count, int64(size)), 0)
        return context.get_dummy_value()

    return types.void(target, at, count), emit


@intrinsic
def prefetch(typingctx, a, start, stop):
    """Ask for the cache lines of a[start .. stop - 1], which are soon to be read."""

    def emit(context, builder, signature, args):
        a, start, stop = (pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args))
        line = int64(64 // context.get_abi_sizeof(a.type.pointee))
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        with cgutils.for_range_slice(builder, start, stop, line) as (i, _):
            at = builder.bitcast(builder.gep(a, [i]), pointer)
            builder.call(function, [at, number(0), number(2), number(1)])  # to read; into L2; data
        return context.get_dummy_value()

    return types.void(a, start, stop), emit


def _shuffle(builder, x, y, lanes_):
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes_)), lanes_))


def int64(value):
    """Return an integer constant."""
    return ir.Constant(ir.IntType(64), value)


def pointer_or_number(context, builder, numba_type, value):
    """Return an array's data pointer, or a number as it is."""
    if isinstance(numba_type, types.Array):
        return context.make_array(numba_type)(context, builder, value).data
    return value


def masks(builder, width, size, nv):
    """Return one bit per lane and vector: lane l of vector j is alive where j L + l < width."""
    counts = ir.VectorType(ir.IntType(32), size)
    width = broadcast(builder, counts, builder.trunc(width, ir.IntType(32)))
    return [builder.icmp_signed("<", ir.Constant(counts, [*range(j * size, (j + 1) * size)]), width) for j in range(nv)]


def _vector_at(builder, vector, base, start, j):
    at = builder.gep(base, [builder.add(start, int64(j * vector.count))])
    return builder.bitcast(at, vector.as_pointer())


def load(builder, vector, base, start, j, alive):
    """Load vector j at base[start]; dead lanes are not read and come as 0."""
    at = _vector_at(builder, vector, base, start, j)
    if alive is None:
        return builder.load(at, align=_bytes(vector))
    arguments = [at, _align(vector), alive[j], ir.Constant(vector, None)]
    return _call(builder, f"llvm.masked.load.{_suffix(vector)}.p0", vector, arguments)


def store(builder, value, base, start, j, alive):
    """Store vector j at base[start]; dead lanes are not written."""
    vector = value.type
    arguments = [value, _vector_at(builder, vector, base, start, j), _align(vector), alive[j]]
    _call(builder, f"llvm.masked.store.{_suffix(vector)}.p0", ir.VoidType(), arguments)


def broadcast(builder, vector, value):
    """Return a vector with `value` in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def fmuladd(builder, x, y, z):
    """x y + z, fused where the target has it: llvm.fma would be a library call per lane where it has not."""
    return _call(builder, f"llvm.fmuladd.{_suffix(x.type)}", x.type, [x, y, z])


def _call(builder, name, result, arguments):
    kind = ir.FunctionType(result, [v.type for v in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _suffix(vector):
    return f"v{vector.count}{_ELEMENTS[vector.element][0]}"


def _bytes(vector):
    return _ELEMENTS[vector.element][1]


def _align(vector):
    return ir.Constant(ir.IntType(32), _bytes(vector))
