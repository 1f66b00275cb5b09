"""Sums down columns on the GPU, in two launches: of chunks of rows, then of the chunks; each a fixed tree.

Memory is B blocks (the batch, or its images) of R rows (pixels) of C columns (channels). A block of threads takes
one chunk of rows and a strip of columns, V side by side a thread:

            strip 0           strip 1
    row   | t0 t1 t2 t3     | t0 t1 t2 t3 ...      `width` threads side by side,
    row   | t4 t5 t6 t7     | t4 t5 t6 t7 ...      rows go round the others

so that what a thread knows of its columns stays in registers.
"""

import functools
from typing import NamedTuple

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import power_of_two, split

__all__ = ["Plan", "add_parts", "narrow", "part", "plan"]

_STRIP = 32  # threads side by side, at most
_ROWS = 16  # that a thread takes, at least
_SIDE = 8  # columns that a block adds up at least, where only a few numbers of each are left
_BLOCKS = 2048  # of threads, at most where there are several chunks


class Plan(NamedTuple):
    """How a pass is launched: `size` = (B, R, C, K), K the chunks of a block, is what its kernel reads."""

    grid: int
    threads: int
    width: int
    size: tuple


def plan(shape, B, V):
    """Cut an array (B R, C); K depends on the shape alone but for V."""
    N, C, H, W = shape
    R = N * H * W // B if B else 0
    width = power_of_two(-(-C // V), min(_STRIP, gpu.THREADS))
    strips = -(-(C // V) // width)
    K = max(1, min(_BLOCKS // max(B * strips, 1), R // (gpu.THREADS // width * _ROWS)))
    return Plan(B * K * strips, gpu.THREADS, width, (B, R, C, K))


@functools.cache
def part(threads, width, V):
    """Make part(size): block b, chunk of all, first column, first row of this thread and where the chunk ends."""

    @gpu.device
    def part_of(size):
        _, R, C, K = size
        chunk, strip = split(cuda.blockIdx.x, (C // V + width - 1) // width)
        b, k = split(chunk, K)
        t = np.int64(cuda.threadIdx.x)
        return b, chunk, (strip * width + t % width) * V, b * R + R * k // K + t // width, b * R + R * (k + 1) // K

    return part_of


def narrow(items):
    """Return (threads, width) of a block that adds up `items` numbers for each of `width` columns."""
    return gpu.THREADS, gpu.THREADS // power_of_two(items, max(1, gpu.THREADS // _SIDE))


def add_parts(parts, sums):
    """Fill sums (S, B, C) with the sums of parts (S, B K, C) over K."""
    S, B, C = sums.shape
    K = parts.shape[1] // max(B, 1)
    threads, width = narrow(K)
    if sums.size:
        _add_parts(threads, width, sums.dtype)[S * B * -(-C // width), threads](parts, sums, K)


@functools.cache
def _add_parts(threads, width, dtype):
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)

    @gpu.kernel(launch_bounds=threads)
    def add_parts(parts, sums, K):
        _, B, C = sums.shape
        t = np.int64(cuda.threadIdx.x)
        rest, strip = split(cuda.blockIdx.x, (C + width - 1) // width)
        s, b = split(rest, B)
        c = strip * width + t % width
        total = 0.0
        if c < C:
            for k in range(t // width, K, threads // width):
                total += parts[s, b * K + k, c]
        total = total_of(total)
        if t < width and c < C:
            sums[s, b, c] = total

    return add_parts
