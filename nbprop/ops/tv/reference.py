"""Total variation as it is derived: what every pixel's differences give to the three pixels they read."""

import math

import numpy as np

from nbprop import jit, layout


def workspace(shape, dtype):
    """Allocate what the cpu twin wants, so that a layer's plan serves both."""
    _, C, _, W = shape
    return layout.empty((jit.threads(), (3 * W + 1) * C), dtype)


@jit.reference
def total_variation(x, anisotropic, eps, scale, dx, sums, work):
    N, C, H, W = x.shape
    dx[...] = 0
    sums[...] = 0
    for n in range(N):
        for c in range(C):
            for i in range(H):
                length = 0.0  # of this row: one long sum of small terms would be the least exact number here
                for j in range(W):
                    across = x[n, c, i, j + 1] - x[n, c, i, j] if j + 1 < W else 0 * x[n, c, i, j]
                    down = x[n, c, i + 1, j] - x[n, c, i, j] if i + 1 < H else 0 * x[n, c, i, j]
                    if anisotropic:
                        norm_across = math.sqrt(across * across + eps * eps)
                        norm_down = math.sqrt(down * down + eps * eps)
                        length += norm_across + norm_down
                    else:
                        norm_across = norm_down = math.sqrt(across * across + down * down + eps * eps)
                        length += norm_across
                    # Equation 9: d|grad U_ij| by U_ij+1, by U_i+1j, and by U_ij minus both; 0 where flat.
                    p = scale * across / norm_across if norm_across != 0 else 0 * across
                    q = scale * down / norm_down if norm_down != 0 else 0 * down
                    dx[n, c, i, j] -= p + q
                    if j + 1 < W:
                        dx[n, c, i, j + 1] += p
                    if i + 1 < H:
                        dx[n, c, i + 1, j] += q
                sums[n, 0] += length


def totals(sums, scale, values):
    """Sum the images' partial sums: for each image, or into one value for all, times `scale`."""
    values[:] = scale * (np.sum(sums, axis=1) if len(values) == len(sums) else np.sum(sums))
