"""Size formulas and argument checks: one rule per op, which returns its geometry or raises ValueError.

Every check happens here, in Python, before a kernel runs: kernels do not validate. A message is one sentence:
which argument, what came, what was expected, and where it helps what to do.
"""

import operator
from typing import NamedTuple

import numpy as np

__all__ = [
    "Conv2d",
    "Linear",
    "Pool2d",
    "avg_pool2d",
    "check_array",
    "check_same_dtype",
    "check_shape",
    "conv2d",
    "linear",
    "max_pool2d",
    "pair",
    "pool2d",
    "pool2d_window",
    "probability",
]


def check_array(name, x, ndim=None):
    """Refuse anything but a float32 or float64 array of the given rank (an int or a tuple of ints)."""
    if not hasattr(x, "dtype") or not hasattr(x, "strides"):
        raise ValueError(f"{name} is a {type(x).__name__}; expected a NumPy array of float32 or float64")
    if x.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} has dtype {x.dtype}; expected float32 or float64: convert it with "
                         f"{name}.astype(np.float32)")
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and x.ndim not in ranks:
        wanted = " or ".join(_LAYOUTS.get(n, f"{n} axes") for n in ranks)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {wanted}")


_LAYOUTS = {1: "one axis", 2: "(N, features)", 4: "(N, C, H, W)"}


def check_shape(name, x, shape):
    """Refuse an array whose shape is not exactly `shape`."""
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {tuple(shape)}")


def check_same_dtype(**arrays):
    """Refuse arrays of different dtypes; absent ones (None) are passed over."""
    present = {name: a.dtype for name, a in arrays.items() if a is not None}
    if len(set(present.values())) > 1:
        came = ", ".join(f"{name} {dtype}" for name, dtype in present.items())
        raise ValueError(f"{' and '.join(present)} have different dtypes ({came}); expected one dtype for all")


def integer(name, value, least):
    """Return `value` as an int of at least `least`, or refuse it by name."""
    try:
        number = operator.index(value)
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least {least}") from None
    if number < least:
        raise ValueError(f"{name} is {number}; expected an integer of at least {least}")
    return number


def probability(name, value):
    """Return `value` as a float from 0 to 1, or refuse it by name."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"{name} is {value!r}; expected a probability from 0 to 1")
    return number


def pair(name, value, least):
    """Return an int or a pair of ints (rows, columns) as a pair, each at least `least`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name} is {value!r}; expected an integer or a pair (rows, columns)")
    return integer(name, values[0], least), integer(name, values[1], least)


class Conv2d(NamedTuple):
    """Sizes of a convolution, in DESIGN's names."""

    N: int
    C: int
    H: int
    W: int
    O: int
    KH: int
    KW: int
    SH: int
    SW: int
    PH: int
    PW: int
    DH: int
    DW: int
    G: int
    OH: int
    OW: int


def conv2d(x_shape, w_shape, stride=1, padding=0, dilation=1, groups=1):
    """Geometry of a convolution: OH = floor((H + 2 PH - DH (KH - 1) - 1) / SH) + 1, and OW alike."""
    N, C, H, W = x_shape
    O, CG, KH, KW = w_shape
    G = integer("groups", groups, 1)
    SH, SW = pair("stride", stride, 1)
    DH, DW = pair("dilation", dilation, 1)
    PH, PW = _padding(padding, (KH, KW), (SH, SW), (DH, DW))
    if KH < 1 or KW < 1:
        raise ValueError(f"w has a kernel of {KH} x {KW}; expected at least 1 x 1")
    if O % G or O < 1:
        raise ValueError(f"groups is {G} and w has {O} output channels; expected groups to divide them")
    if C != CG * G:
        hint = "; it looks like NHWC: pass x.transpose(0, 3, 1, 2)" if W == CG * G else ""
        raise ValueError(f"x has {C} channels (shape {tuple(x_shape)}); expected {CG * G}, which is groups={G} "
                         f"times the {CG} input channels of w{hint}")
    OH = _windows("x", "height", H, KH, SH, PH, DH)
    OW = _windows("x", "width", W, KW, SW, PW, DW)
    return Conv2d(N, C, H, W, O, KH, KW, SH, SW, PH, PW, DH, DW, G, OH, OW)


def _padding(padding, kernel, stride, dilation):
    """Resolve torch's "valid" and "same" to numbers."""
    if not isinstance(padding, str):
        return pair("padding", padding, 0)
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise ValueError(f'padding is {padding!r}; expected an integer, a pair, "valid" or "same"')
    extra = [d * (k - 1) for k, d in zip(kernel, dilation)]
    if stride != (1, 1):
        raise ValueError(f'padding is "same" and stride is {stride}; "same" needs stride 1')
    if extra[0] % 2 or extra[1] % 2:
        raise ValueError(f'padding is "same" and the kernel is {kernel}; an even kernel would need a different '
                         "padding on each side, which is not supported: pad the input first")
    return extra[0] // 2, extra[1] // 2


def _windows(name, axis, size, k, stride, padding, dilation):
    reach = dilation * (k - 1) + 1
    if size + 2 * padding < reach:
        raise ValueError(f"{name} has {axis} {size}, padded to {size + 2 * padding}; expected at least the kernel's "
                         f"reach of {reach} (kernel {k}, dilation {dilation})")
    return (size + 2 * padding - reach) // stride + 1


class Pool2d(NamedTuple):
    """Sizes of a pooling."""

    N: int
    C: int
    H: int
    W: int
    KH: int
    KW: int
    SH: int
    SW: int
    PH: int
    PW: int
    DH: int
    DW: int
    OH: int
    OW: int

    @property
    def x_shape(self):
        return self.N, self.C, self.H, self.W

    @property
    def y_shape(self):
        return self.N, self.C, self.OH, self.OW

    @property
    def kernel(self):
        return self.KH, self.KW

    @property
    def stride(self):
        return self.SH, self.SW

    @property
    def padding(self):
        return self.PH, self.PW

    @property
    def dilation(self):
        return self.DH, self.DW


def pool2d(x_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Geometry of a pooling; with `ceil_mode` a last window may hang over the edge if it starts inside."""
    N, C, H, W = x_shape
    (KH, KW), (SH, SW), (PH, PW), (DH, DW) = pool2d_window(kernel_size, stride, padding, dilation)
    OH = _pooled("height", H, KH, SH, PH, DH, ceil_mode)
    OW = _pooled("width", W, KW, SW, PW, DW, ceil_mode)
    return Pool2d(N, C, H, W, KH, KW, SH, SW, PH, PW, DH, DW, OH, OW)


def pool2d_window(kernel_size, stride=None, padding=0, dilation=1):
    """The part of a pooling that does not depend on the image: four pairs (rows, columns)."""
    KH, KW = pair("kernel_size", kernel_size, 1)
    SH, SW = (KH, KW) if stride is None else pair("stride", stride, 1)
    PH, PW = pair("padding", padding, 0)
    DH, DW = pair("dilation", dilation, 1)
    if 2 * PH > KH or 2 * PW > KW:
        raise ValueError(f"padding is {(PH, PW)}; expected at most half of kernel_size {(KH, KW)}")
    return (KH, KW), (SH, SW), (PH, PW), (DH, DW)


def max_pool2d(x_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Geometry of a max pooling: every window has a winner, and its index in the plane fits 32 bits."""
    g = pool2d(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    _check_winners("height", g.H, g.KH, g.SH, g.PH, g.DH, g.OH)
    _check_winners("width", g.W, g.KW, g.SW, g.PW, g.DW, g.OW)
    if g.H * g.W >= 2**31:
        raise ValueError(f"x has planes of {g.H} x {g.W}; expected fewer than 2**31 elements, as winners are "
                         "kept in 32 bits")
    return g


def _check_winners(axis, size, k, stride, padding, dilation, windows):
    """Refuse a dilated window that steps over all of `x`; without dilation, padding is too small for that."""
    starts = range(-padding, windows * stride - padding, stride) if padding and dilation > 1 else ()
    for start in starts:
        if not any(0 <= start + i * dilation < size for i in range(k)):
            raise ValueError(f"padding is {padding} and dilation {dilation} on {axis} {size}: a window of "
                             f"{k} holds no element of x, so it has no maximum; use less of them")


def avg_pool2d(x_shape, kernel_size, stride=None, padding=0, ceil_mode=False, divisor_override=None):
    """Geometry of an average pooling, and its divisor: 0 where it is the window's own size."""
    g = pool2d(x_shape, kernel_size, stride, padding, 1, ceil_mode)
    return g, 0 if divisor_override is None else integer("divisor_override", divisor_override, 1)


def _pooled(axis, size, k, stride, padding, dilation, ceil_mode):
    windows = _windows("x", axis, size, k, stride, padding, dilation)
    reach = dilation * (k - 1) + 1
    rest = (size + 2 * padding - reach) % stride
    if ceil_mode and rest and windows * stride < size + padding:
        windows += 1
    return windows


class Linear(NamedTuple):
    """Sizes of a matrix product: N rows, K in features, O out features."""

    N: int
    K: int
    O: int


def linear(x_shape, w_shape):
    """Geometry of y = x W^T + b with x (N, K) and w (O, K)."""
    N, K = x_shape
    O, wk = w_shape
    if wk != K:
        raise ValueError(f"x has {K} features (shape {tuple(x_shape)}); expected {wk}, the in_features of w")
    return Linear(N, K, O)
