"""The middle storey of every op: the tasks of a kernel, each called by its address from one loop over the threads.

`prange` would compile every kernel three times more: Numba links it into the loop's body, into that body's wrapper and
into the entry, and optimises it anew in each (half of all compile time). So the library has one such loop. A launcher
packs its arguments and calls the loop with the address of a few instructions of its own, which unpack them and call the
kernel by a symbol:

    launch(0, x, y, tasks)  ->  loop(address of each, address of (x, y, tasks), tasks)  ->  each(data, task)
                            ->  kernel(x, y, task, tasks)

Told an address instead of 0, a launcher leaves there what the loop needs to do the same again without it:

    | bytes of all this | address of each | tasks | offset of raised | (x, y, tasks) | raised, a byte |

The symbols of a launcher that was cached on disk must be there before it is loaded: `prepare`.
"""

import functools
import hashlib

from llvmlite import binding, ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from nbprop.tape import LONGEST

__all__ = ["HEADER", "RAISED", "address", "call", "launcher", "prepare", "raised", "word"]

HEADER = 32  # bytes, before the arguments

_WORD = ir.IntType(64)
_EACH = ir.FunctionType(ir.VoidType(), [_WORD, _WORD])  # (data, task)
_OF_LOOP = (types.intp,) * 3
RAISED = "a task raised an exception; with one thread (numba.set_num_threads) a first call shows it"


@intrinsic
def call(typingctx, address, data, task):
    """Call what stands at an address with two integers."""

    def emit(context, builder, signature, args):
        builder.call(builder.inttoptr(args[0], _EACH.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit


@intrinsic
def word(typingctx, at):
    """Return the integer at an address."""

    def emit(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()))

    return types.intp(types.intp), emit


@intrinsic
def raised(typingctx, at):
    """Say whether the byte at an address tells that a task raised, and let it tell the next time's."""

    def emit(context, builder, signature, args):
        byte = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        told = builder.load(byte)
        builder.store(ir.IntType(8)(0), byte)
        return builder.trunc(told, ir.IntType(1))

    return types.boolean(types.intp), emit


def launcher(kernel, loop):
    """Make launch(tape, *arguments), to be compiled: it runs `kernel`'s tasks, here if there is one, else in `loop`."""

    @intrinsic
    def share_out(typingctx, tape, arguments):
        prepare(kernel, loop, arguments)

        def emit(context, builder, signature, args):
            tape, packed = args
            tasks = _count(context, builder, arguments, packed)
            value = cgutils.pack_struct(builder, [packed, cgutils.false_bit])
            each = _each(context, builder.module, kernel, arguments, value.type.as_pointer())
            with builder.if_then(builder.icmp_signed("!=", tape, _WORD(0)), likely=False):
                _write_entry(context, builder, tape, each, tasks, value)
            with builder.if_else(builder.icmp_signed("==", tasks, _WORD(1))) as (alone, shared):
                with alone:
                    status = _call_task(context, builder, kernel, arguments, packed, _WORD(0))
                    with builder.if_then(status.is_error, likely=False):
                        context.call_conv.return_status_propagate(builder, status)
                with shared:
                    box = cgutils.alloca_once_value(builder, value)
                    words = [builder.ptrtoint(each, _WORD), builder.ptrtoint(box, _WORD), tasks]
                    _call(context, builder, loop, _OF_LOOP, words)
                    with builder.if_then(builder.load(cgutils.gep_inbounds(builder, box, 0, 1)), likely=False):
                        context.call_conv.return_user_exc(builder, RuntimeError, (RAISED,))
            return context.get_dummy_value()

        return types.void(types.intp, arguments), emit

    def launch(tape, *arguments):
        share_out(tape, arguments)

    return launch


def _write_entry(context, builder, tape, each, tasks, value):
    """Leave at the address `tape` what the loop needs, see above."""
    box = builder.inttoptr(builder.add(tape, _WORD(HEADER)), value.type.as_pointer())
    size = -(-(HEADER + context.get_abi_sizeof(value.type)) // 16) * 16
    if size > LONGEST:
        raise errors.TypingError(f"a driver has arguments of {size} bytes; expected at most {LONGEST}")
    flag = builder.sub(builder.ptrtoint(cgutils.gep_inbounds(builder, box, 0, 1), _WORD), tape)
    head = builder.inttoptr(tape, _WORD.as_pointer())
    for i, number in enumerate((_WORD(size), builder.ptrtoint(each, _WORD), tasks, flag)):
        builder.store(number, builder.gep(head, [_WORD(i)]))
    builder.store(value, box)


def prepare(kernel, loop, arguments):
    """Compile, or load, what a launcher of these types calls, and tell LLVM where it is."""
    if not isinstance(arguments[-1], types.Integer):
        raise errors.TypingError(f"{kernel.py_func.__qualname__} is told {arguments[-1]} tasks; expected an integer")
    _symbol(kernel, _of_task(arguments))
    _symbol(loop, _OF_LOOP)


@functools.cache
def _symbol(function, signature):
    """Make LLVM find a function's machine code for some types by a name, alike in all processes that share a cache.

    One that is not cached has a name of this process.
    """
    at, cells = address(function, signature), function._cache.cells
    identity = (function.py_func.__module__, function.py_func.__qualname__, id(function) if cells is None else cells,
                signature)  # fmt: skip
    name = f"nbprop_{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}"
    binding.add_symbol(name, at)
    return name


def address(function, signature):
    """Compile, or load, a kernel for some types, and return where its machine code stands."""
    function.compile(signature)
    compiled = function.overloads[signature]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def _of_task(arguments):
    """(..., tasks) -> (..., task, tasks)"""
    return (*arguments.types[:-1], types.intp, types.intp)


def _count(context, builder, arguments, packed):
    """Return the number of tasks, the last of the packed arguments."""
    tasks = builder.extract_value(packed, len(arguments) - 1)
    return context.cast(builder, tasks, arguments[-1], types.intp)


def _each(context, module, kernel, arguments, box):
    """Make each(data, task): the task of the arguments in a box, which notes whether it raised."""
    each = ir.Function(module, _EACH, module.get_unique_name("each"))
    each.linkage = "internal"
    builder = ir.IRBuilder(each.append_basic_block())
    data = builder.inttoptr(each.args[0], box)
    packed = builder.load(cgutils.gep_inbounds(builder, data, 0, 0))
    status = _call_task(context, builder, kernel, arguments, packed, each.args[1])
    with builder.if_then(status.is_error, likely=False):
        builder.store(cgutils.true_bit, cgutils.gep_inbounds(builder, data, 0, 1))
    builder.ret_void()
    return each


def _call_task(context, builder, kernel, arguments, packed, task):
    before = [builder.extract_value(packed, i) for i in range(len(arguments) - 1)]
    count = _count(context, builder, arguments, packed)
    return _call(context, builder, kernel, _of_task(arguments), [*before, task, count])


def _call(context, builder, function, signature, args):
    """Call a function by its symbol, as Numba calls it; return the status."""
    described = function.overloads[signature].fndesc
    as_numba = context.call_conv.get_function_type(described.restype, described.argtypes)
    callee = cgutils.get_or_insert_function(builder.module, as_numba, _symbol(function, signature))
    return context.call_conv.call_function(builder, callee, described.restype, described.argtypes, args)[0]
