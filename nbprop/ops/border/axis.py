"""One axis of a border as tables: which position of x each of y shows, and where each of x is shown."""

import functools
from typing import NamedTuple

import numpy as np

from nbprop.ops.border.source import source

__all__ = ["Axis", "axis"]


class Axis(NamedTuple):
    """One axis of a border.

    `source[o]` is the position of x at y's position o, or -1; positions first .. stop - 1 of y show x from
    `begin` on, one after another. `shown[starts[i] : starts[i + 1]]` are the positions of y that show x's i.
    """

    source: np.ndarray
    first: int
    stop: int
    begin: int
    shown: np.ndarray
    starts: np.ndarray


@functools.lru_cache(maxsize=256)
def axis(size, before, after, mode):
    """Return the tables for an axis of x of that size."""
    count = size + before + after
    sources = np.array([source.py_func(o, size, before, after, mode) for o in range(count)], np.int64)
    order = np.argsort(sources, kind="stable")
    constants = int(np.count_nonzero(sources < 0))
    shown = np.ascontiguousarray(order[constants:], np.int64)
    starts = np.searchsorted(sources[shown], np.arange(size + 1)).astype(np.int64)
    return Axis(sources, max(before, 0), min(before + size, count), max(-before, 0), shown, starts)
