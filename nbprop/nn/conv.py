"""Convolution layers."""

from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout, shapes
from nbprop.nn import init
from nbprop.nn.gradient import as_gradient
from nbprop.nn.module import Module, Parameter, as_input

__all__ = ["Conv2d", "ConvTranspose2d", "workspace"]


class Conv2d(Module):
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

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", dtype=np.float32):
        if padding_mode != "zeros":
            raise ValueError(f'padding_mode is {padding_mode!r}; only "zeros" is supported: use a padding layer')
        C, O = shapes.integer("in_channels", in_channels, 1), shapes.integer("out_channels", out_channels, 1)
        G = shapes.integer("groups", groups, 1)
        if C % G or O % G:
            raise ValueError(f"groups is {G}; expected a divisor of in_channels {C} and out_channels {O}")
        KH, KW = shapes.pair("kernel_size", kernel_size, 1)
        shapes.pair("stride", stride, 1)
        shapes.pair("dilation", dilation, 1)
        self.settings = (stride, padding, dilation, groups)
        fan_in = C // G * KH * KW
        self.weight = Parameter(init.uniform((O, C // G, KH, KW), fan_in, dtype), memory=(2, 3, 1, 0))
        self.bias = Parameter(init.uniform((O,), fan_in, dtype)) if bias else None

    def allocate(self, shape, dtype):
        if len(shape) != 4:
            raise ValueError(f"x has shape {tuple(shape)}; expected (N, C, H, W)")
        if dtype != self.weight.dtype:
            raise ValueError(f"x has dtype {dtype}; expected {self.weight.dtype}, the dtype of the layer's weights")
        g = shapes.conv2d(shape, self.weight.shape, *self.settings)
        y = layout.empty((g.N, g.O, g.OH, g.OW), dtype)
        zeros, unused = np.zeros(g.O, dtype), np.zeros(g.O, dtype)
        return SimpleNamespace(g=g, y=y, dx=None, zeros=zeros, unused=unused, work={})

    def forward(self, x, relu=False):
        """Return the output, or with `relu` its positive part: Sequential asks for it where a ReLU follows."""
        x = as_input(x)
        p = self.plan(x)
        self.last = p, x
        bias = p.zeros if self.bias is None else self.bias.data
        twin = backend.twin("conv", x)
        twin.forward(x, self.weight.data, bias, p.y, p.g, relu, workspace(twin, p, x.dtype))
        return p.y

    def backward(self, dy, input_gradient=True):
        p, x = self.last
        dy = as_gradient(dy, p.y)
        twin = backend.twin("conv", x)
        work = workspace(twin, p, x.dtype)
        db = p.unused if self.bias is None else self.bias.grad
        twin.backward_weight(dy, x, self.weight.grad, db, p.g, work)
        if not input_gradient:
            return None
        if p.dx is None:
            p.dx = layout.empty(x.shape, x.dtype)
        twin.backward_input(dy, self.weight.data, p.dx, p.g, work)
        return p.dx


class ConvTranspose2d(Module):
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

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1,
                 bias=True, dilation=1, padding_mode="zeros", dtype=np.float32):
        if padding_mode != "zeros":
            raise ValueError(f'padding_mode is {padding_mode!r}; only "zeros" is supported')
        C, O = shapes.integer("in_channels", in_channels, 1), shapes.integer("out_channels", out_channels, 1)
        G = shapes.integer("groups", groups, 1)
        if C % G or O % G:
            raise ValueError(f"groups is {G}; expected a divisor of in_channels {C} and out_channels {O}")
        KH, KW = shapes.pair("kernel_size", kernel_size, 1)
        shapes.pair("stride", stride, 1)
        shapes.pair("dilation", dilation, 1)
        self.settings = (stride, padding, output_padding, dilation, groups)
        fan_in = O // G * KH * KW
        self.weight = Parameter(init.uniform((C, O // G, KH, KW), fan_in, dtype), memory=(2, 3, 1, 0))
        self.bias = Parameter(init.uniform((O,), fan_in, dtype)) if bias else None

    def allocate(self, shape, dtype):
        if len(shape) != 4:
            raise ValueError(f"x has shape {tuple(shape)}; expected (N, C, H, W)")
        if dtype != self.weight.dtype:
            raise ValueError(f"x has dtype {dtype}; expected {self.weight.dtype}, the dtype of the layer's weights")
        g = shapes.conv_transpose2d(shape, self.weight.shape, *self.settings)
        y = layout.empty((g.N, g.C, g.H, g.W), dtype)
        zeros, unused = np.zeros(g.C, dtype), np.zeros(g.C, dtype)
        return SimpleNamespace(g=g, y=y, dx=None, zeros=zeros, unused=unused, work={})

    def forward(self, x):
        x = as_input(x)
        p = self.plan(x)
        self.last = p, x
        bias = p.zeros if self.bias is None else self.bias.data
        twin = backend.twin("conv_transpose", x)
        twin.forward(x, self.weight.data, bias, p.y, p.g, False, workspace(twin, p, x.dtype))
        return p.y

    def backward(self, dy, input_gradient=True):
        p, x = self.last
        dy = as_gradient(dy, p.y)
        twin = backend.twin("conv_transpose", x)
        work = workspace(twin, p, x.dtype)
        db = p.unused if self.bias is None else self.bias.grad
        twin.backward_weight(dy, x, self.weight.grad, db, p.g, work)
        if not input_gradient:
            return None
        if p.dx is None:
            p.dx = layout.empty(x.shape, x.dtype)
        twin.backward_input(dy, self.weight.data, p.dx, p.g, work)
        return p.dx


def workspace(twin, plan, dtype):
    """Return a plan's scratch memory for the backend in use, allocated at its first call."""
    if twin not in plan.work:
        plan.work[twin] = twin.workspace(plan.g, dtype)
    return plan.work[twin]
