"""im2col and col2im: an image's windows as the columns of a matrix, and the adjoint.

A convolution is then a matrix product, and its input gradient the product with the transposed matrix (seed
001):

    y = W im2col(x)                 W (O, C KH KW), y (N, O, OH OW)
    dx = col2im(W^T dy)
    dW = sum over images of dy im2col(x)^T
"""

from nbprop import backend, layout, shapes

__all__ = ["col2im", "im2col"]


def im2col(x, kernel_size, dilation=1, padding=0, stride=1):
    """Return the windows of x as columns; the gradient of `col2im`.

        columns[n, (c KH + kh) KW + kw, oh OW + ow] = x[n, c, oh SH + kh DH - PH, ow SW + kw DW - PW]

    Parameters
    ----------
    x : array (N, C, H, W), float32 or float64
        Zero outside its edges.
    kernel_size, dilation, padding, stride : int or pair of int

    Returns
    -------
    columns : array (N, C KH KW, OH OW), of the dtype of `x`

    Raises
    ------
    ValueError
        If `x` is not such an array, or a size is out of range.

    Source
    ------
    Seed 001, "Convolution as a matrix multiplication"; layout and arguments of torch.nn.functional.unfold.
    """
    x = shapes.check_array("x", x, 4)
    g = shapes.columns2d(x.shape, kernel_size, dilation, padding, stride)
    x = layout.channels_last(x)
    columns = layout.empty(g.columns_shape, x.dtype, x)
    backend.twin("im2col", x).im2col(x, columns, g)
    return columns


def col2im(columns, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Return the image whose pixels are sums over the windows that they are in; the gradient of `im2col`.

        x[n, c, h, w] = sum of columns[n, (c KH + kh) KW + kw, oh OW + ow]
                        over oh SH + kh DH - PH = h, ow SW + kw DW - PW = w

    Parameters
    ----------
    columns : array (N, C KH KW, OH OW), float32 or float64
    output_size : int or pair of int
        H and W.
    kernel_size, dilation, padding, stride : int or pair of int

    Returns
    -------
    x : array (N, C, H, W), of the dtype of `columns`

    Raises
    ------
    ValueError
        If `columns` is not such an array, or sizes do not fit together.

    Source
    ------
    Seed 001, "Backward propagation can be presented as transposed matrix multiplication";
    layout and arguments of torch.nn.functional.fold.
    """
    columns = shapes.check_array("columns", columns, 3)
    g = shapes.image_of_columns(columns.shape, output_size, kernel_size, dilation, padding, stride)
    columns = layout.contiguous(columns)
    x = layout.empty(g.x_shape, columns.dtype, columns)
    backend.twin("im2col", columns).col2im(columns, x, g)
    return x
