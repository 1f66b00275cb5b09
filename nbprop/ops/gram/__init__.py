"""The Gram matrix of an image's channels."""

from nbprop import backend, layout
from nbprop.shapes import check_array, check_same_dtype, check_shape

__all__ = ["check_input", "gram_backward", "gram_forward", "scale"]


def gram_forward(x, normalize=False):
    """Return G = X X^T of each image, X being its C x (H W) matrix: which channels occur together.

        G[n, i, j] = sum over h, w of x[n, i, h, w] x[n, j, h, w]

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
    normalize : bool
        Divide by C H W, so that images of different sizes can be compared.

    Returns
    -------
    G : array (N, C, C), of the dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array, or has no pixel.

    Source
    ------
    Seed 000, section 6.1, equations 10 and 11.
    """
    x = layout.channels_last(check_input(x))
    N, C, _, _ = x.shape
    y = layout.empty((N, C, C), x.dtype, x)
    twin = backend.twin("gram", x)
    twin.gram_forward(x, y, scale(x, normalize), twin.workspace(x.shape, x.dtype))
    return y


def gram_backward(dy, x, normalize=False):
    """Return the gradient by x: dX = (dG + dG^T) X of each image.

    G[i, j] = sum of X[i, k] X[j, k] holds X[c, k] once for i = c and once for j = c, so

        dX[c, k] = sum over i, j of dG[i, j] ([i = c] X[j, k] + [j = c] X[i, k])
                 = sum over i of (dG[c, i] + dG[i, c]) X[i, k]

    Parameters
    ----------
    dy : array (N, C, C)
        The loss's derivative by G.
    x : array (N, C, H, W), float32 or float64
    normalize : bool
        As in the forward pass.

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `x`

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit together.

    Source
    ------
    Seed 000, section 6.1, equations 12 to 15.
    """
    x = check_input(x)
    dy = check_array("dy", dy, 3)
    check_same_dtype(dy=dy, x=x)
    N, C, _, _ = x.shape
    check_shape("dy", dy, (N, C, C))
    dy, x = layout.contiguous(dy), layout.channels_last(x)
    dx = layout.empty_like(x)
    twin = backend.twin("gram", x)
    twin.gram_backward(dy, x, dx, scale(x, normalize), twin.workspace(x.shape, x.dtype))
    return dx


def check_input(x):
    """Return images with pixels, and refuse anything else."""
    x = check_array("x", x, 4)
    if 0 in x.shape[1:]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one channel, row and column")
    return x


def scale(x, normalize):
    """Return what the matrix is multiplied by."""
    _, C, H, W = x.shape
    return x.dtype.type(1 / (C * H * W) if normalize else 1)
