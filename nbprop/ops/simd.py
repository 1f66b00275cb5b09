"""Vectors in LLVM's IR: what the kernels that are emitted instruction by instruction are made of."""

import contextlib
import functools

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = ["VECTORS", "apart", "at_least", "broadcast", "by_vector", "clear", "copy", "fetch", "fetch_line", "fmuladd",
           "int64", "keep_rolled", "lanes", "load", "masks", "pointer_or_number", "prefetch", "register", "registers",
           "rolled", "store", "store_narrow", "take_panel", "transpose_square", "vector_bytes", "zeros"]

VECTORS = 4  # side by side in a tile at most, see dense.tile
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


def register(context, pointer):
    """Return the type of a register full of what `pointer` points to."""
    element = pointer.type.pointee
    return ir.VectorType(element, vector_bytes() // context.get_abi_sizeof(element))


def lanes(dtype) -> int:
    """Return L, the number of elements of `dtype` in one vector register."""
    return vector_bytes() // dtype.itemsize


def take_panel(summed):
    """Make target[i][lane] = source[start + i step + lane], P lanes, that is 1 to VECTORS whole vectors.

    With `summed` the sum over i is added to sums[o + lane], which is else not touched. Lanes from `width` on become 0
    in `target`; they are not read, nor summed.
    """

    @intrinsic
    def take(typingctx, source, start, step, target, P, count, sums, o, width):
        signature = types.void(source, start, step, target, P, count, sums, o, width)
        return signature, functools.partial(apart, f"{__name__}.take_panel.{summed}",
                                            functools.partial(_emit_take, summed))  # fmt: skip

    return take


def _emit_take(summed, context, builder, args):
    P = args[4]
    for nv in range(1, VECTORS + 1):
        with builder.if_then(builder.icmp_signed("==", P, int64(nv * register(context, args[0]).count))):
            _emit_take_vectors(nv, summed, context, builder, args)


def _emit_take_vectors(nv, summed, context, builder, args):
    source, start, step, target, P, count, sums, o, width = args
    vector = register(context, source)
    totals = [cgutils.alloca_once(builder, vector) for _ in range(nv if summed else 0)]
    some = masks(builder, width, vector.count, nv)
    for j, total in enumerate(totals):
        builder.store(load(builder, vector, sums, o, j, some), total)
    with builder.if_else(builder.icmp_signed("==", width, P)) as branches:
        for branch, alive in zip(branches, (None, some)):
            with branch, rolled(builder, count) as i:
                at, into = builder.add(start, builder.mul(i, step)), builder.mul(i, P)
                for j in range(nv):
                    value = load(builder, vector, source, at, j, alive)
                    store(builder, value, target, into, j, None)
                    if summed:
                        builder.store(builder.fadd(builder.load(totals[j]), value), totals[j])
    if summed:
        store_narrow(builder, [[builder.load(total) for total in totals]], sums, [o], width)


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


@contextlib.contextmanager
def rolled(builder, count):
    """Loop over range(count), and ask LLVM not to unroll.

    Unrolled twice, the product's rows need twice as many pointers, and 16 general registers do not hold them: on AVX2
    each step then read half of them back from the stack.
    """
    with cgutils.for_range(builder, count) as loop:
        yield loop.index
        body = builder.block
    keep_rolled(builder, body)


def keep_rolled(builder, body):
    """Describe the loop that the block `body` closes as one that is not to be unrolled."""
    module = builder.module
    wish = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    description = module.add_metadata([wish])
    description.operands = description, wish  # it begins with itself
    body.terminator.set_metadata("llvm.loop", description)


def at_least(builder, value, lowest):
    """Return the larger of the two: value < lowest is false for NaN, which therefore stays."""
    return builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)


def by_vector(builder, vector, channels, c, targets, sums):
    """Fill rows of c with all channels, vector by vector.

    `sums(channel, lanes, alive)` emits one vector per row, of `lanes` channels from `channel` on; `alive` are their
    masks, or None for whole vectors.
    """
    count = int64(vector.count)
    whole = builder.and_(channels, int64(-vector.count))
    with cgutils.for_range_slice(builder, int64(0), whole, count) as (channel, _):
        for value, target in zip(sums(channel, count, None), targets):
            store(builder, value, c, builder.add(target, channel), 0, None)
    some = builder.sub(channels, whole)
    with builder.if_then(builder.icmp_signed(">", some, int64(0))):
        results = sums(whole, some, masks(builder, some, vector.count, 1))
        store_narrow(builder, [[value] for value in results], c, [builder.add(t, whole) for t in targets], some)


def store_narrow(builder, rows, c, targets, width):
    """Store the first `width` lanes of each row of vectors.

    Only AVX-512 has quick masked stores: one of AVX2 takes 12 cycles or more on AMD's processors, and elsewhere they
    come as a branch per lane. There the last vectors go through the stack, in pieces of 8, 4, 2 and 1 elements.
    """
    vector, nv = rows[0][0].type, len(rows[0])
    if vector_bytes() == 64:
        alive = masks(builder, width, vector.count, nv)
        for values, target in zip(rows, targets):
            for j, value in enumerate(values):
                store(builder, value, c, target, j, alive)
        return
    stack = [cgutils.alloca_once(builder, vector) for _ in rows]
    for j in range(nv):
        left = builder.sub(width, int64(j * vector.count))
        with builder.if_else(builder.icmp_signed(">=", left, int64(vector.count))) as (then, otherwise):
            with then:
                for values, target in zip(rows, targets):
                    store(builder, values[j], c, target, j, None)
            with otherwise, builder.if_then(builder.icmp_signed(">", left, int64(0))):
                for values, place in zip(rows, stack):
                    builder.store(values[j], place)
                piece = vector.count // 2
                while piece:
                    done = builder.and_(left, int64(-2 * piece))
                    with builder.if_then(builder.icmp_signed("!=", builder.and_(left, int64(piece)), int64(0))):
                        for place, target in zip(stack, targets):
                            start = builder.add(target, int64(j * vector.count))
                            _copy_piece(builder, piece, place, done, builder.gep(c, [start]))
                    piece //= 2


def _copy_piece(builder, size, source, first, target):
    """Copy `size` elements from `first` on from one place to another."""
    element = target.type.pointee
    piece = ir.VectorType(element, size).as_pointer()
    source = builder.gep(builder.bitcast(source, element.as_pointer()), [first])
    value = builder.load(builder.bitcast(source, piece), align=_ELEMENTS[element][1])
    builder.store(value, builder.bitcast(builder.gep(target, [first]), piece), align=_ELEMENTS[element][1])


@intrinsic
def transpose_square(typingctx, source, start, stride, target, at, step):
    """Transpose L x L elements: target[at + j step + i] = source[start + i stride + j], in registers."""

    def emit(context, builder, signature, args):
        source, start, stride, target, at, step = (
            pointer_or_number(context, builder, t, v) for t, v in zip(signature.args, args))
        vector = register(context, source)
        size = vector.count
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
        fetch(builder, a, start, stop)
        return context.get_dummy_value()

    return types.void(a, start, stop), emit


def fetch(builder, a, start, stop):
    """Emit `prefetch`."""
    with cgutils.for_range_slice(builder, start, stop, int64(64 // _ELEMENTS[a.type.pointee][1])) as (i, _):
        fetch_line(builder, a, i, 0, 2)


def fetch_line(builder, a, i, write, nearness):
    """Ask for the line of a[i], to read or to write, into L1 (nearness 3) or L2 (2)."""
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    at = builder.bitcast(builder.gep(a, [i]), pointer)
    builder.call(function, [at, number(write), number(nearness), number(1)])  # 1: data


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
    arguments = [at, _align(vector), alive[j], zeros(vector)]
    return _call(builder, f"llvm.masked.load.{_suffix(vector)}.p0", vector, arguments)


def store(builder, value, base, start, j, alive):
    """Store vector j at base[start]; dead lanes are not written."""
    vector = value.type
    at = _vector_at(builder, vector, base, start, j)
    if alive is None:
        builder.store(value, at, align=_bytes(vector))
        return
    arguments = [value, at, _align(vector), alive[j]]
    _call(builder, f"llvm.masked.store.{_suffix(vector)}.p0", ir.VoidType(), arguments)


def zeros(vector):
    """Return a vector of zeros."""
    return ir.Constant(vector, None)


def broadcast(builder, vector, value):
    """Return a vector with `value` in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    first = zeros(ir.VectorType(ir.IntType(32), vector.count))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), first)


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
