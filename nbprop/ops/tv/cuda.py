"""Total variation on the GPU: a thread walks down a few rows of one column, and keeps the slope from above.

For a pixel, p and q are what its differences give to the right and down; dx is q of the pixel above - p - q + p of
the pixel to the left, which the thread computes once more, as it does q above its first row. Sums are of one fixed
tree per block of threads, and of another per image.
"""

import functools
import math
from types import SimpleNamespace

import numpy as np

from nbprop import gpu, jit
from nbprop.gpu import cuda
from nbprop.ops.cuda_pixels import split
from nbprop.ops.flat import flat

_ROWS = 8  # that a thread walks down


def workspace(shape, dtype):
    N, C, H, W = shape
    return SimpleNamespace(parts=gpu.empty((N, -(-H // _ROWS) * -(-W * C // gpu.THREADS)), np.float64))


def total_variation(x, anisotropic, eps, scale, dx, sums, work):
    N, C, H, W = x.shape
    if not x.size:
        return
    sizes = tuple(map(np.int32, (H, W * C, C, -(-H // _ROWS), -(-W * C // gpu.THREADS))))
    real = x.dtype.type
    walk = _walk(bool(anisotropic), gpu.THREADS)
    walk[work.parts.size, gpu.THREADS](flat(x), flat(dx), work.parts, sizes, real(eps) * real(eps), real(scale))
    _add(gpu.THREADS)[N, gpu.THREADS](work.parts, sums, 1.0)


def totals(sums, scale, values):
    count = len(values)
    if count:
        parts = sums.reshape(count, sums.size // count)
        _add(gpu.THREADS)[count, gpu.THREADS](parts, values.reshape(count, 1), scale)


@jit.scalar
def _isotropic(own, right, below, eps2):
    """Return p, q and the length of the gradient."""
    zero = own - own
    across, down = right - own, below - own
    norm = math.sqrt(across * across + down * down + eps2)
    return (zero if norm == 0 else across / norm), (zero if norm == 0 else down / norm), norm


@jit.scalar
def _anisotropic(own, right, below, eps2):
    """Return p, q and the sum of both lengths."""
    zero = own - own
    across, down = right - own, below - own
    norm_across, norm_down = math.sqrt(across * across + eps2), math.sqrt(down * down + eps2)
    return ((zero if norm_across == 0 else across / norm_across), (zero if norm_down == 0 else down / norm_down),
            norm_across + norm_down)  # fmt: skip


@functools.cache
def _walk(anisotropic, threads):
    slopes = _anisotropic if anisotropic else _isotropic
    total_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel(launch_bounds=threads)
    def walk(x, dx, parts, sizes, eps2, scale):
        H, L, C, bands, strips = sizes
        task, strip = split(cuda.blockIdx.x, strips)
        n, band = split(task, bands)
        i = strip * threads + cuda.threadIdx.x
        first, stop = H * band // bands, H * (band + 1) // bands
        zero = x.dtype.type(0)
        total = zero
        if i < L:
            right = C if i + C < L else 0  # the last pixel is its own neighbour, as the last row is
            at = (np.int64(n) * H + first) * L + i
            above = zero
            if first > 0:
                _, above, _ = slopes(x[at - L], x[at - L + right], x[at], eps2)
            for h in range(first, stop):
                down = L if h + 1 < H else 0
                own = x[at]
                p, q, norm = slopes(own, x[at + right], x[at + down], eps2)
                left = zero
                if i >= C:
                    left, _, _ = slopes(x[at - C], own, x[at - C + down], eps2)
                dx[at] = scale * (above - p - q + left)
                total += norm
                above = q
                at += L
        whole = total_of(np.float64(total))
        if cuda.threadIdx.x == 0:
            parts[n, band * strips + strip] = whole

    return walk


@functools.cache
def _add(threads):
    """Put a row's sum, times scale, to the first element of that row of sums, zeros to the others."""
    total_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel(launch_bounds=threads)
    def add_parts(parts, sums, scale):
        n, t = cuda.blockIdx.x, cuda.threadIdx.x
        total = total_of(gpu.thread_sum(parts[n], threads))
        for i in range(t, sums.shape[1], threads):
            sums[n, i] = scale * total if i == 0 else 0.0

    return add_parts
