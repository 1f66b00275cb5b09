"""Items dealt to tasks in equal shares, and those that a slow core has not begun taken over by the others.

Cores are seldom equally fast: a processor has large and small ones, and on a shared machine another's work takes half
of one away. Two cores of a shared EPYC (Zen 3) ran the bare micro-kernel at 122 GFLOP/s in equal halves, as the slower
one sets the pace, where both together could have done 141. Equal shares come first all the same, as a core finds in its
caches what it wrote in the layer before.

Which task does an item changes nothing of its result.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbprop import jit
from nbprop.ops.flat import share

__all__ = ["queue", "take", "upcoming"]

_LINE = 16  # entries per task: cache lines of their own, two as they are fetched in pairs


def queue(tasks):
    """Return a queue for so many tasks: how many items of each one's share are taken, and how many tasks are done."""
    return np.zeros((tasks + 1) * _LINE, np.int64)


@jit.kernel
def take(queue, items, task, tasks):
    """Return the next of the items 0 .. items - 1 for a task, which no other gets.

    When all are taken that is `items`, and the task asks no more: the last one leaves the queue as it was.
    """
    for i in range(tasks):
        other = (task + i) % tasks
        begin, end = share(items, other, tasks)
        if queue[other * _LINE] < end - begin:
            item = begin + _count(queue, other * _LINE)
            if item < end:
                return item
    if _count(queue, tasks * _LINE) == tasks - 1:
        for i in range(tasks + 1):
            queue[i * _LINE] = 0
    return items


@jit.kernel
def upcoming(queue, items, task, tasks):
    """Return which item of its share a task is given next, unless another takes it; `items` if there is none."""
    begin, end = share(items, task, tasks)
    item = begin + queue[task * _LINE]
    return item if item < end else items


@intrinsic
def _count(typingctx, array, at):
    """Add one to array[at], and return what was there: one step, whoever else does the same."""

    def emit(context, builder, signature, args):
        entry = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.atomic_rmw("add", entry, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(array, types.intp), emit
