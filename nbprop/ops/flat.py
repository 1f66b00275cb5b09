"""Arrays as runs of memory, and even splits of work among threads."""

import math

import numpy as np

from nbprop import jit, layout, tape

__all__ = ["flat", "flat_or_none", "flat_weights", "lines", "power_of_two", "rows", "same_again", "share", "stretch",
           "tasks"]

_SMALL = 1 << 15  # elements that one thread passes over in the time a parallel region may cost


def flat(x):
    """View an array of a layer (channels-last, or C-contiguous) as one run of memory."""
    if isinstance(x, np.ndarray):
        return x.ravel("K")  # in the order of memory: a view, as there are no gaps
    return layout.nhwc(x).reshape(-1) if x.ndim == 4 else x.reshape(-1)


def flat_or_none(x):
    """The same, if there is an array."""
    return None if x is None else flat(x)


def flat_weights(w):
    """Return weights as one run, KH, KW, C, O or inputs, outputs: a view, unless they were laid out otherwise."""
    return (layout.khwio(w) if w.ndim == 4 else w.T).reshape(-1)


def same_again(view, a):
    """Return a view of a parameter. If it has become a copy, what is being taped would not be the same again."""
    if not np.may_share_memory(view, a):
        tape.spoil()
    return view


def rows(x):
    """View such an array as (rows, C): one row per sample, or per pixel."""
    return x if x.ndim == 2 else layout.nhwc(x).reshape(-1, x.shape[1])


def lines(x, axis):
    """View such an array as (before, K, after): the lines along `axis`, K elements each, in memory order."""
    if x.ndim == 4:
        x, axis = layout.nhwc(x), (0, 3, 1, 2)[axis]
    before, K = x.shape[:axis], x.shape[axis]
    return x.reshape(math.prod(before), K, math.prod(x.shape[axis + 1 :]))


def tasks(elements):
    """Return the number of tasks to split element-wise work into; 1 says that one thread is faster."""
    return jit.threads() if elements > _SMALL else 1


def power_of_two(most):
    """Return the largest power of two that is at most `most`, or 1: equal shares for 2, 4, 8 ... threads."""
    return 1 << (max(most, 1).bit_length() - 1)


@jit.scalar
def share(items, task, tasks):
    """Return where a task's items begin and end: an even split."""
    return items * task // tasks, items * (task + 1) // tasks


@jit.scalar
def stretch(elements, task, tasks):
    """The same at whole cache lines: no two tasks write to one."""
    begin, end = share(elements, task, tasks)
    return begin // 16 * 16, (elements if task == tasks - 1 else end // 16 * 16)
