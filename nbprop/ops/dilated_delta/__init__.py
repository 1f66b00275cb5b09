"""Dilated delta insertion: a strided convolution's gradients as correlations of unit stride, step by step.

Seed 003, section 3.2.3, "Gradient to Propagate", is a TODO there. Written out in its symbols, with padding P
and dilation D added:

    z[n, c, h, w] = sum over c', i, j of x[n, c', h S + i D - P, w S + j D - P] k[c, c', i, j]

is the forward pass. So x[n, c', u, v] has a part in z[n, c, h, w] through the weight (i, j) with
i D = u + P - h S and j D = v + P - w S, if there is one:

    dL/dx[n, c', u, v] = sum of delta[n, c, h, w] k[c, c', i, j]
                         over c, and all h, i with h S + i D = u + P, and w, j with w S + j D = v + P

Insert S - 1 zeros between the rows and columns of delta: d[n, c, h S, w S] = delta[n, c, h, w], 0 elsewhere.
Then i and j alone are free, as the terms that join are zeros:

    dL/dx[n, c', u, v] = sum over c, i, j of d[n, c, u + P - i D, v + P - j D] k[c, c', i, j]

u + P - i D runs from P - D(K-1) to H - 1 + P, beyond d on both sides. Hence d gets D(K-1) zeros on all four
sides (3.1.3 pads left and up only). The inserted rows end at (OH-1) S + 1, but windows need not end at the
last row: (H + 2P - D(K-1) - 1) mod S rows of the padded image are in no window; as many zero rows follow
in d (the seed forgets them; without them dx comes out too small). With i' = K-1-i, j' = K-1-j and the padded
d, this is as in 3.1.3 a correlation of unit stride with the rotated kernel, its channels exchanged:

    dL/dx[n, c', u, v] = sum over c, i', j' of d[n, c, u + P + i' D, v + P + j' D] k^[c', c, i', j']
    k^[c', c, i', j'] = k[c, c', K-1-i', K-1-j']

It has H + 2P rows, from u = -P on; P are cropped at each end, the gradients of the padding.

The weight gradient (3.2.1) is the correlation of x with the inserted delta as the kernel, of unit stride,
with batch and channels exchanged. Its sums run over the inserted rows (the seed keeps the limits H^l - 1),
and its columns are w S + j (the seed writes hS + j).

The tuned kernels of nbprop.ops.conv never make d: they skip the zeros, by one dense correlation
per stride phase.
"""

import importlib

from nbprop import backend, layout, shapes
from nbprop.ops.dilated_delta import literal

__all__ = [
    "dilated_delta_backward",
    "dilated_delta_forward",
    "strided_backward_input",
    "strided_backward_weight",
]


def dilated_delta_forward(dy, output_size, kernel_size, stride=1, padding=0, dilation=1, border=True):
    """Return delta with zeros inserted, for the gradients of a convolution that gave `dy`'s sizes.

        d[n, o, B + oh S, B + ow S] = dy[n, o, oh, ow], 0 elsewhere;  B = D (K - 1), or 0 without `border`

    Rows: B + (OH - 1) S + 1 + (H + 2P - D(K-1) - 1) mod S + B, which is H + 2P - D(K-1) + 2B.

    Parameters
    ----------
    dy : array (N, O, OH, OW), float32 or float64
        The loss's derivative by the convolution's output.
    output_size : int or pair of int
        H and W of the convolution's input.
    kernel_size, stride, padding, dilation : int or pair of int
        Of the convolution.
    border : bool
        Pad by D(K-1) on all four sides (for the input gradient).

    Returns
    -------
    d : array (N, O, H + 2P - D(K-1) + 2B, ...), of the dtype of `dy`

    Raises
    ------
    ValueError
        If `dy` is not such an array, or sizes do not fit together.

    Source
    ------
    Seed 003, sections 3.1.3, 3.2.1 and 3.2.3 (written out above).
    """
    dy = shapes.check_array("dy", dy, 4)
    N, O = dy.shape[:2]
    g, sizes, edge = _geometry(N, O, output_size, kernel_size, stride, padding, dilation, border)
    shapes.check_shape("dy", dy, (N, O, g.OH, g.OW))
    dy = layout.channels_last(dy)
    delta = layout.empty((N, O, *sizes), dy.dtype, dy)
    backend.twin("dilated_delta", dy).dilated_delta_forward(dy, delta, (g.SH, g.SW), edge)
    return delta


def dilated_delta_backward(ddelta, output_size, kernel_size, stride=1, padding=0, dilation=1, border=True):
    """Return the adjoint of the insertion: what stands where dy was put.

        ddy[n, o, oh, ow] = ddelta[n, o, B + oh S, B + ow S]

    Parameters
    ----------
    ddelta : array of the shape that `dilated_delta_forward` returns
    output_size, kernel_size, stride, padding, dilation, border
        As there.

    Returns
    -------
    ddy : array (N, O, OH, OW), of the dtype of `ddelta`

    Raises
    ------
    ValueError
        If `ddelta` is not such an array, or sizes do not fit together.

    Source
    ------
    Seed 003, section 3.2 (the op is a selection matrix; this is its transpose).
    """
    ddelta = shapes.check_array("ddelta", ddelta, 4)
    N, O = ddelta.shape[:2]
    g, sizes, edge = _geometry(N, O, output_size, kernel_size, stride, padding, dilation, border)
    shapes.check_shape("ddelta", ddelta, (N, O, *sizes))
    ddelta = layout.channels_last(ddelta)
    ddy = layout.empty((N, O, g.OH, g.OW), ddelta.dtype, ddelta)
    backend.twin("dilated_delta", ddelta).dilated_delta_backward(ddelta, ddy, (g.SH, g.SW), edge)
    return ddy


def strided_backward_input(dy, w, x_shape, stride=1, padding=0, dilation=1):
    """Return a convolution's input gradient, literally: insert, pad, correlate with the rotated kernel, crop.

    Parameters
    ----------
    dy : array (N, O, OH, OW), float32 or float64
    w : array (O, C, KH, KW)
    x_shape : tuple (N, C, H, W)
    stride, padding, dilation : int or pair of int

    Returns
    -------
    dx : array (N, C, H, W), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes, dtypes or sizes do not fit together.

    Source
    ------
    Seed 003, section 3.2.3 (written out above). Plain loops, on purpose: nbprop.ops.conv is the fast one.
    """
    dy = shapes.check_array("dy", dy, 4)
    w = shapes.check_array("w", w, 4)
    shapes.check_same_dtype(dy=dy, w=w)
    g = shapes.conv2d(x_shape, w.shape, stride, padding, dilation)
    shapes.check_shape("dy", dy, (g.N, g.O, g.OH, g.OW))
    delta = dilated_delta_forward(dy, (g.H, g.W), (g.KH, g.KW), stride, padding, dilation)
    rotated = layout.contiguous(w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))  # and channels exchanged
    dx = layout.empty((g.N, g.C, g.H, g.W), dy.dtype, dy)
    _literal(dy).correlate_with_rotated(delta, rotated, dx, (g.PH, g.PW), (g.DH, g.DW))
    return dx


def strided_backward_weight(dy, x, w_shape, stride=1, padding=0, dilation=1):
    """Return a convolution's weight gradient, literally: insert, and correlate x with delta as the kernel.

    Parameters
    ----------
    dy : array (N, O, OH, OW), float32 or float64
    x : array (N, C, H, W)
    w_shape : tuple (O, C, KH, KW)
    stride, padding, dilation : int or pair of int

    Returns
    -------
    dw : array (O, C, KH, KW), of the dtype of `dy`

    Raises
    ------
    ValueError
        If shapes, dtypes or sizes do not fit together.

    Source
    ------
    Seed 003, sections 3.1.1 and 3.2.1. Plain loops, on purpose: nbprop.ops.conv is the fast one.
    """
    dy = shapes.check_array("dy", dy, 4)
    x = shapes.check_array("x", x, 4)
    shapes.check_same_dtype(dy=dy, x=x)
    g = shapes.conv2d(x.shape, w_shape, stride, padding, dilation)
    shapes.check_shape("dy", dy, (g.N, g.O, g.OH, g.OW))
    delta = dilated_delta_forward(dy, (g.H, g.W), (g.KH, g.KW), stride, padding, dilation, border=False)
    dw = layout.empty_weights((g.O, g.C, g.KH, g.KW), dy.dtype, dy)
    _literal(dy).correlate_with_delta(layout.channels_last(x), delta, dw, (g.PH, g.PW), (g.DH, g.DW))
    return dw


def _literal(dy):
    """Return the module of the two plain correlations for arrays where `dy` is."""
    return importlib.import_module("nbprop.ops.dilated_delta.cuda_literal") if layout.on_gpu(dy) else literal


def _geometry(N, O, output_size, kernel_size, stride, padding, dilation, border):
    """Return the convolution's geometry, the inserted delta's sizes, and its border."""
    kernel = shapes.pair("kernel_size", kernel_size, 1)
    x_shape = N, 1, *shapes.pair("output_size", output_size, 1)
    g = shapes.conv2d(x_shape, (max(O, 1), 1, *kernel), stride, padding, dilation)
    reach = g.DH * (g.KH - 1), g.DW * (g.KW - 1)
    edge = reach if border else (0, 0)
    sizes = g.H + 2 * g.PH - reach[0] + 2 * edge[0], g.W + 2 * g.PW - reach[1] + 2 * edge[1]
    return g, sizes, edge
