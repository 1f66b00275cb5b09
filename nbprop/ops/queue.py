"""Items dealt to tasks in equal shares, and those that a slow core has not begun taken over by the others.

Cores are seldom equally fast: a processor has large and small ones, and on a shared machine another's work takes half
of one away. Two cores of a shared EPYC (Zen 3) ran the bare micro-kernel at 122 GFLOP/s in equal halves, as the slower
one sets the pace, where both together could have done 141. Equal shares come first all the same, as a core finds in its
caches what it wrote in the layer before.

Which task does an item changes nothing of its result.
"""

import threading

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbprop import jit
from nbprop.ops.flat import share

__all__ = ["queue", "take"]

_LINE = 16  # entries per task: cache lines of their own, two as they are fetched in pairs


class _Own(threading.local):
    """Each Python thread's queue: one of its drivers runs at a time."""

    def __init__(self):
        self.queue = np.zeros(0, np.int64)


_own = _Own()


def queue(tasks):
    """Return the queue for a driver about to be called: how many items of each task's share are taken, none."""
    found = _own.queue
    if found.size < tasks * _LINE:
        found = _own.queue = np.zeros(tasks * _LINE, np.int64)
    found.fill(0)
    return found


@jit.kernel
def take(queue, items, task, tasks):
    """Return the next of the items 0 .. items - 1 for a task, which no other gets; `items` when all are taken."""
    for i in range(tasks):
        other = (task + i) % tasks
        begin, end = share(items, other, tasks)
        if queue[other * _LINE] < end - begin:
            item = begin + _count(queue, other * _LINE)
            if item < end:
                return item
    return items


@intrinsic
def _count(typingctx, array, at):
    """Add one to array[at], and return what was there: one step, whoever else does the same."""

    def emit(context, builder, signature, args):
        entry = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.atomic_rmw("add", entry, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(array, types.intp), emit
