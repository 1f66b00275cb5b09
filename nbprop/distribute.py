"""The middle storey of every op: the tasks of a kernel, each called by its address from one loop over the threads.

`prange` would compile every kernel three times more: Numba links it into the loop's body, into that body's wrapper and
into the entry, and optimises it anew in each (half of all compile time). So the library has one such loop. A launcher
packs its arguments and calls the loop with the address of a few instructions of its own, which unpack them and call the
kernel by a symbol:

    launch(x, y, tasks)  ->  loop(address of each, address of (x, y, tasks), tasks)  ->  each(data, task)
                         ->  kernel(x, y, task, tasks)

The symbols of a launcher that was cached on disk must be there before it is loaded: `prepare`.
"""

import hashlib

from llvmlite import binding, ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

__all__ = ["call", "launcher", "prepare"]

_WORD = ir.IntType(64)
_EACH = ir.FunctionType(ir.VoidType(), [_WORD, _WORD])  # (data, task)


@intrinsic
def call(typingctx, address, data, task):
    """Call what stands at an address with two integers."""

    def emit(context, builder, signature, args):
        builder.call(builder.inttoptr(args[0], _EACH.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit


def launcher(kernel, loop):
    """Make launch(*arguments), to be compiled: it runs `kernel`'s tasks, here if there is one, else in `loop`."""

    @intrinsic
    def share_out(typingctx, arguments):
        prepare(kernel, loop, arguments)

        def emit(context, builder, signature, args):
            compiled = kernel.overloads[_of_task(arguments)]
            tasks = builder.extract_value(args[0], len(arguments) - 1)
            tasks = context.cast(builder, tasks, arguments[-1], types.intp)
            with builder.if_else(builder.icmp_signed("==", tasks, _WORD(1))) as (alone, shared):
                with alone:
                    _call_task(context, builder, kernel, compiled, args[0], _WORD(0), tasks)
                with shared:
                    box = cgutils.alloca_once_value(builder, args[0])
                    each = ir.Function(builder.module, _EACH, builder.module.get_unique_name("each"))
                    each.linkage = "internal"
                    inner = ir.IRBuilder(each.append_basic_block())
                    packed = inner.load(inner.inttoptr(each.args[0], box.type))
                    count = context.cast(inner, inner.extract_value(packed, len(arguments) - 1), arguments[-1],
                                         types.intp)  # fmt: skip
                    _call_task(context, inner, kernel, compiled, packed, each.args[1], count)
                    inner.ret_void()
                    words = [builder.ptrtoint(each, _WORD), builder.ptrtoint(box, _WORD), tasks]
                    _call_symbol(context, builder, loop, loop.overloads[_OF_LOOP], words)
            return context.get_dummy_value()

        return types.void(arguments), emit

    def launch(*arguments):
        share_out(arguments)

    return launch


def prepare(kernel, loop, arguments):
    """Compile, or load, what a launcher of these types calls, and tell LLVM where it is."""
    if not isinstance(arguments[-1], types.Integer):
        raise errors.TypingError(f"{kernel.py_func.__qualname__} is told {arguments[-1]} tasks; expected an integer")
    for callee, signature in ((kernel, _of_task(arguments)), (loop, _OF_LOOP)):
        callee.compile(signature)
        compiled = callee.overloads[signature]
        address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        binding.add_symbol(_symbol(callee, signature), address)


_OF_LOOP = (types.intp,) * 3


def _of_task(arguments):
    """(..., tasks) -> (..., task, tasks)"""
    return (*arguments.types[:-1], types.intp, types.intp)


def _symbol(function, signature):
    """Name the machine code of a function for some types, alike in every process that may find it cached."""
    cells = function._cache.cells
    unique = id(function) if cells is None else cells
    identity = function.py_func.__module__, function.py_func.__qualname__, unique, signature
    return f"nbprop_{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}"


def _call_task(context, builder, kernel, compiled, packed, task, tasks):
    before = [builder.extract_value(packed, i) for i in range(len(compiled.fndesc.argtypes) - 2)]
    _call_symbol(context, builder, kernel, compiled, [*before, task, tasks])


def _call_symbol(context, builder, function, compiled, args):
    """Call it as Numba does; nothing of ours raises, so the status says nothing."""
    described = compiled.fndesc
    as_numba = context.call_conv.get_function_type(described.restype, described.argtypes)
    callee = cgutils.get_or_insert_function(builder.module, as_numba, _symbol(function, described.argtypes))
    context.call_conv.call_function(builder, callee, described.restype, described.argtypes, args)
