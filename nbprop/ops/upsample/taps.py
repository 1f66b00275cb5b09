"""Which positions of x one position of y is made of, along one axis: torch's rules, in torch's precision."""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import layout

__all__ = ["Taps", "on_gpu", "taps"]


class Taps(NamedTuple):
    """One axis of a resizing: y[o] = (1 - weight[o]) x[first[o]] + weight[o] x[second[o]].

    Positions begin[i] .. end[i] - 1 of y are those that x's position i may have a part in.
    """

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray
    begin: np.ndarray
    end: np.ndarray


@functools.lru_cache(maxsize=256)
def taps(size, count, scale, mode, align_corners, dtype):
    """Return the taps of `count` positions on `size`, for a scale_factor (0 if none was given).

        nearest                         first = floor(o size / count), weight = 0
        bilinear                        first + weight = max((o + 1/2) size / count - 1/2, 0)
        bilinear with align_corners     first + weight = o (size - 1) / (count - 1)

    A given scale replaces count / size (whose floor count is). Positions are computed as torch does, since
    rounding decides which of two neighbours is the nearest: for "bilinear" in the array's own dtype; for
    "nearest" in float32 whatever the dtype, and twice the size without any scale, as torch's channels-last
    kernels and its backward pass have it (its forward on other memory orders can differ there by one).
    """
    real = np.float32 if mode == "nearest" else np.dtype(dtype).type
    o = np.arange(count, dtype=real)
    step = real(1 / scale) if scale else real(size) / real(count)
    if count == size:
        position = o
    elif mode == "nearest":
        position = np.floor(o * (real(0.5) if count == 2 * size else step))
    elif align_corners:
        position = o * (real(size - 1) / real(count - 1) if count > 1 else real(0))
    else:
        position = np.maximum((o + real(0.5)) * step - real(0.5), real(0))
    first = np.minimum(position.astype(np.int64), size - 1)
    if mode == "nearest":
        second, weight = first, np.zeros(count, dtype)
        begin = np.searchsorted(first, np.arange(size))
    else:
        second, weight = np.minimum(first + 1, size - 1), np.clip(position - first, 0, 1).astype(dtype)
        begin = np.searchsorted(first, np.arange(size) - 1)
    end = np.searchsorted(first, np.arange(size), side="right")
    return Taps(first, second, weight, begin.astype(np.int64), end.astype(np.int64))


def on_gpu(axis):
    """Return (positions, weight) in GPU memory: first, second, begin and end in one array of int32."""
    positions = np.concatenate([axis.first, axis.second, axis.begin, axis.end]).astype(np.int32)
    return layout.gpu().to_device(positions), layout.gpu().to_device(axis.weight)
