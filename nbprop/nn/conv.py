"""Convolution layers."""

import numpy as np

from nbprop import shapes
from nbprop.nn import init
from nbprop.nn.module import Parameter
from nbprop.nn.product import Product

__all__ = ["Conv2d", "ConvTranspose2d"]


def _checked(in_channels, out_channels, groups, kernel_size, stride, dilation):
    """Return C, O, G, KH and KW as integers, or refuse an argument by name."""
    C, O = shapes.integer("in_channels", in_channels, 1), shapes.integer("out_channels", out_channels, 1)
    G = shapes.integer("groups", groups, 1)
    if C % G or O % G:
        raise ValueError(f"groups is {G}; expected a divisor of in_channels {C} and out_channels {O}")
    KH, KW = shapes.pair("kernel_size", kernel_size, 1)
    shapes.pair("stride", stride, 1)
    shapes.pair("dilation", dilation, 1)
    return C, O, G, KH, KW


class Conv2d(Product):
    """Convolve (N, C, H, W) with learned weights: `ops.conv.conv2d_forward`, with torch.nn.Conv2d's arguments.

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel_size, stride, padding, dilation : int or (int, int)
        Rows and columns; `padding` may be "valid" or "same".
    groups : int
        Must divide both channel counts.
    bias : bool
        Whether a bias is learned.
    padding_mode : str
        Only "zeros"; for another border put a padding layer in front.
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    `weight` is (O, C / groups, KH, KW), kept in memory as KH, KW, C / groups, O. Source: seed 003, section 3.
    """

    op = "conv"

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", dtype=np.float32):
        if padding_mode != "zeros":
            raise ValueError(f'padding_mode is {padding_mode!r}; only "zeros" is supported: use a padding layer')
        C, O, G, KH, KW = _checked(in_channels, out_channels, groups, kernel_size, stride, dilation)
        self.settings = (stride, padding, dilation, groups)
        fan_in = C // G * KH * KW
        self.weight = Parameter(init.uniform((O, C // G, KH, KW), fan_in, dtype), memory=(2, 3, 1, 0))
        self.bias = Parameter(init.uniform((O,), fan_in, dtype)) if bias else None

    def geometry(self, shape):
        if len(shape) != 4:
            raise ValueError(f"x has shape {tuple(shape)}; expected (N, C, H, W)")
        g = shapes.conv2d(shape, self.weight.shape, *self.settings)
        return g, (g.N, g.O, g.OH, g.OW)


class ConvTranspose2d(Product):
    """Spread (N, C, H, W) through learned kernels: `ops.conv_transpose`, with torch.nn.ConvTranspose2d's arguments.

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel_size, stride, padding, output_padding : int or (int, int)
        Rows and columns.
    groups : int
        Must divide both channel counts.
    bias : bool
        Whether a bias is learned.
    dilation : int or (int, int)
        Rows and columns.
    padding_mode : str
        Only "zeros".
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    `weight` is (C, O / groups, KH, KW). Source: seed 000, section 3.7.
    """

    op = "conv_transpose"

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1,
                 bias=True, dilation=1, padding_mode="zeros", dtype=np.float32):
        if padding_mode != "zeros":
            raise ValueError(f'padding_mode is {padding_mode!r}; only "zeros" is supported')
        C, O, G, KH, KW = _checked(in_channels, out_channels, groups, kernel_size, stride, dilation)
        self.settings = (stride, padding, output_padding, dilation, groups)
        fan_in = O // G * KH * KW
        self.weight = Parameter(init.uniform((C, O // G, KH, KW), fan_in, dtype), memory=(2, 3, 1, 0))
        self.bias = Parameter(init.uniform((O,), fan_in, dtype)) if bias else None

    def geometry(self, shape):
        if len(shape) != 4:
            raise ValueError(f"x has shape {tuple(shape)}; expected (N, C, H, W)")
        g = shapes.conv_transpose2d(shape, self.weight.shape, *self.settings)
        return g, (g.N, g.C, g.H, g.W)
