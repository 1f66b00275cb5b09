"""Discrete total variation, value and gradient in one pass."""

import math

import numpy as np

from nbprop import backend, layout
from nbprop.shapes import check_array

__all__ = [
    "buffers",
    "check_arguments",
    "check_options",
    "evaluate",
    "total_variation_backward",
    "total_variation_forward",
]

_ROWS = 32  # rows of one partial sum: fixed, whatever the number of threads
_REDUCTIONS = ("sum", "mean", "batchmean", "none")


def total_variation_forward(x, anisotropic=False, eps=0.0, reduction="sum"):
    """Return the total variation of images: the sum of the lengths of their discrete gradients.

        TV(U) = sum over i, j of ((U[i, j+1] - U[i, j])^2 + (U[i+1, j] - U[i, j])^2 + eps^2)^(1/2)

    A difference over the far edge is zero: the last column has no right neighbour, the last row no lower one.
    Anisotropic: ((U[i, j+1] - U[i, j])^2 + eps^2)^(1/2) + ((U[i+1, j] - U[i, j])^2 + eps^2)^(1/2). Channels
    are images of their own.

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    anisotropic : bool
    eps : float
        Smooths the corner of the root at 0; in the units of `x`.
    reduction : str
        "sum", "mean" over all elements, "batchmean" (the sum over N), or "none": one value per image.

    Returns
    -------
    float, or array (N,) of float64 for "none"

    Raises
    ------
    ValueError
        If `x` is not such an array, `eps` is negative, or for another reduction.

    Source
    ------
    Seed 000, section 5.3, equation 8. Erratum: with i in 0 .. H-1 and j in 0 .. W-1 it reads row H and column
    W, which do not exist; we take those differences as zero.
    """
    x = check_arguments(x, eps, reduction)
    value = evaluate(x, anisotropic, eps, reduction, *buffers(x, reduction))
    return value if reduction == "none" or isinstance(value, float) else value.item()


def total_variation_backward(x, anisotropic=False, eps=0.0, reduction="sum"):
    """Return the gradient of the total variation by x.

    With the slopes p = (U[i, j+1] - U[i, j]) / |grad U[i, j]| and q = (U[i+1, j] - U[i, j]) / |grad U[i, j]|

        dx[m, n] = p[m, n-1] + q[m-1, n] - p[m, n] - q[m, n]

    the exact adjoint of the differences: terms outside the image are left out. p and q are 0 where
    |grad U| is.

    Parameters
    ----------
    x, anisotropic, eps, reduction
        As in `total_variation_forward`; for "none" the gradient of each image's own value.

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `x`

    Raises
    ------
    ValueError
        As in `total_variation_forward`.

    Source
    ------
    Seed 000, section 5.3, equation 9. Errata: it reads beyond all four edges (column -1, row
    -1, column W, row H), and divides by zero wherever the image is flat.
    """
    x = check_arguments(x, eps, reduction)
    dx, *rest = buffers(x, reduction)
    evaluate(x, anisotropic, eps, reduction, dx, *rest)
    return dx


def check_options(eps, reduction):
    """Refuse a negative eps and unknown reductions."""
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps is {eps!r}; expected a number of at least 0")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; expected one of {', '.join(_REDUCTIONS)}")


def check_arguments(x, eps, reduction):
    """Return x in the memory order that kernels read."""
    check_options(eps, reduction)
    x = check_array("x", x, 4)
    if 0 in x.shape[1:]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one channel, row and column")
    return layout.channels_last(x)


def buffers(x, reduction):
    """Allocate dx, the partial sums (N, bands), the value or values, and the scratch memory of x's twin."""
    N, _, H, _ = x.shape
    sums = layout.empty((N, -(-H // _ROWS)), np.float64, x)
    values = layout.empty((N if reduction == "none" else 1,), np.float64, x)
    return layout.empty_like(x), sums, values, backend.twin("tv", x).workspace(x.shape, x.dtype)


def evaluate(x, anisotropic, eps, reduction, dx, sums, values, work):
    """Fill dx and `values`; return the value, on the GPU an array of one, or for "none" an array of them."""
    twin, divisor = backend.twin("tv", x), {"mean": x.size, "batchmean": len(x)}.get(reduction, 1)
    scale = 1 / divisor if divisor else 0.0
    twin.total_variation(x, bool(anisotropic), float(eps), scale, dx, sums, work)
    twin.totals(sums, scale if scale else math.nan, values)
    return values if reduction == "none" or layout.on_gpu(values) else values.item()
