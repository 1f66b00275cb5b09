"""Size formulas and argument checks: one rule per op, which returns its geometry or raises ValueError.

Every check happens here, in Python, before a kernel runs: kernels do not validate. A message is one sentence:
which argument, what came, what was expected, and where it helps what to do.
"""

import math
import operator
from typing import NamedTuple

import numpy as np

from nbprop.checks import check_array, check_same_dtype, check_same_place, check_shape, sizes

__all__ = [
    "BORDERS",
    "Border2d",
    "Conv2d",
    "Linear",
    "Pool2d",
    "adaptive_pool2d",
    "avg_pool2d",
    "border2d",
    "check_array",
    "check_one_of",
    "check_same_dtype",
    "check_same_place",
    "check_shape",
    "columns2d",
    "conv2d",
    "conv_transpose2d",
    "image_of_columns",
    "layer_norm",
    "linear",
    "max_pool2d",
    "norm2d",
    "not_negative",
    "pair",
    "pool2d",
    "pool2d_window",
    "probability",
    "sides",
    "sizes",
    "unpool2d",
    "upsample2d",
]


def integer(name, value, least):
    """Return `value` as an int of at least `least`, or refuse it by name."""
    if type(value) is int and value >= least:  # what nearly all are, in a third of the time
        return value
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
    if not isinstance(value, (tuple, list)):
        return (integer(name, value, least),) * 2
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}; expected an integer or a pair (rows, columns)")
    return integer(name, value[0], least), integer(name, value[1], least)


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

    @property
    def weights(self):
        """How many weights there are."""
        return self.KH * self.KW * self.C // self.G * self.O


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


def conv_transpose2d(x_shape, w_shape, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """Geometry of a transposed convolution: that of the convolution it is the adjoint of, which maps y to x.

    The output is H' = (H - 1) SH - 2 PH + DH (KH - 1) + output_padding + 1 high, and W' wide alike.
    """
    N, C, H, W = x_shape
    wc, OG, KH, KW = w_shape
    G = integer("groups", groups, 1)
    (SH, SW), (DH, DW) = pair("stride", stride, 1), pair("dilation", dilation, 1)
    (PH, PW), (AH, AW) = pair("padding", padding, 0), pair("output_padding", output_padding, 0)
    if KH < 1 or KW < 1 or OG < 1:
        raise ValueError(f"w has shape {tuple(w_shape)}; expected at least one output channel and a 1 x 1 kernel")
    if C != wc:
        hint = "; it looks like NHWC: pass x.transpose(0, 3, 1, 2)" if W == wc else ""
        raise ValueError(f"x has {C} channels (shape {tuple(x_shape)}); expected {wc}, the first axis of w{hint}")
    if C % G:
        raise ValueError(f"groups is {G} and x has {C} channels; expected groups to divide them")
    if AH >= max(SH, DH) or AW >= max(SW, DW):
        raise ValueError(f"output_padding is {(AH, AW)}; expected less than stride {(SH, SW)} or dilation {(DH, DW)}")
    OH = (H - 1) * SH - 2 * PH + DH * (KH - 1) + AH + 1
    OW = (W - 1) * SW - 2 * PW + DW * (KW - 1) + AW + 1
    if H < 1 or W < 1 or OH < 1 or OW < 1:
        raise ValueError(f"x has a map of {H} x {W}, which gives an output of {OH} x {OW}; expected at least 1 x 1")
    return Conv2d(N, OG * G, OH, OW, C, KH, KW, SH, SW, PH, PW, DH, DW, G, H, W)


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
    """Sizes of a pooling, or of anything that looks at an image through windows."""

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
    def columns_shape(self):
        return self.N, self.C * self.KH * self.KW, self.OH * self.OW

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


def sides(name, value):
    """Return an int, or four (left, right, top, bottom), as four ints of any sign."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 4
    try:
        numbers = tuple(operator.index(v) for v in values)
    except TypeError:
        numbers = ()
    if len(numbers) != 4 or any(isinstance(v, (bool, np.bool_)) for v in values):
        raise ValueError(f"{name} is {value!r}; expected an integer or four (left, right, top, bottom)")
    return numbers


class Border2d(NamedTuple):
    """Sizes of a padding or cropping; `padding` is (left, right, top, bottom), negative where it crops."""

    x_shape: tuple
    y_shape: tuple
    padding: tuple
    mode: str


BORDERS = ("constant", "reflect", "replicate", "circular")


def border2d(x_shape, padding, mode):
    """Geometry of a border: OH = H + top + bottom, OW = W + left + right."""
    if mode not in BORDERS:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(BORDERS)}")
    N, C, H, W = x_shape
    left, right, top, bottom = padding = sides("padding", padding)
    _check_border("height", H, (top, bottom), mode)
    _check_border("width", W, (left, right), mode)
    return Border2d((N, C, H, W), (N, C, H + top + bottom, W + left + right), padding, mode)


def _check_border(axis, size, padding, mode):
    """Refuse to crop all of an axis, and borders that need more than the axis holds."""
    left = size + min(padding[0], 0) + min(padding[1], 0)
    if left < 1:
        raise ValueError(f"padding is {padding} on {axis} {size}, which crops all of it; expected at "
                         "least one position to be left")
    most = {"reflect": size - 1, "circular": left}.get(mode)
    if most is not None and max(padding) > most:
        raise ValueError(f'padding is {padding} on {axis} {size} with mode "{mode}"; expected at most '
                         f"{most}, as no position is used twice on one side")


def check_one_of(first, a, second, b):
    """Refuse two arguments of which both, or neither, are given."""
    if (a is None) == (b is None):
        raise ValueError(f"{first} is {a!r} and {second} is {b!r}; expected exactly one of them")


def upsample2d(x_shape, size=None, scale_factor=None):
    """Return the output shape of a resizing, and its two scales (0 where `size` gives the output)."""
    check_one_of("size", size, "scale_factor", scale_factor)
    N, C, H, W = x_shape
    if H < 1 or W < 1:
        raise ValueError(f"x has planes of {H} x {W}; expected at least 1 x 1")
    if size is not None:
        return (N, C, *pair("size", size, 1)), (0.0, 0.0)
    scales = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    if len(scales) != 2 or not all(isinstance(s, (int, float, np.number)) and 0 < s < np.inf for s in scales):
        raise ValueError(f"scale_factor is {scale_factor!r}; expected a number above 0, or a pair of them")
    scales = float(scales[0]), float(scales[1])
    OH, OW = int(H * scales[0]), int(W * scales[1])
    if OH < 1 or OW < 1:
        raise ValueError(f"scale_factor is {scale_factor!r} on planes of {H} x {W}; expected an output of "
                         f"at least 1 x 1, not {OH} x {OW}")
    return (N, C, OH, OW), scales


def columns2d(x_shape, kernel_size, dilation=1, padding=0, stride=1):
    """Geometry of im2col: a column for each place of a convolution's kernel, a row for each of its weights."""
    (KH, KW), (SH, SW) = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
    (DH, DW), (PH, PW) = pair("dilation", dilation, 1), pair("padding", padding, 0)
    N, C, H, W = x_shape
    OH = _windows("x", "height", H, KH, SH, PH, DH)
    OW = _windows("x", "width", W, KW, SW, PW, DW)
    return Pool2d(N, C, H, W, KH, KW, SH, SW, PH, PW, DH, DW, OH, OW)


def image_of_columns(columns_shape, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Geometry of col2im: that of im2col on the image that `columns` fold into."""
    N, rows, count = columns_shape
    KH, KW = pair("kernel_size", kernel_size, 1)
    if rows % (KH * KW):
        raise ValueError(f"columns have {rows} rows (shape {tuple(columns_shape)}); expected a multiple of "
                         f"{KH * KW}, the kernel's {KH} x {KW}")
    x_shape = N, rows // (KH * KW), *pair("output_size", output_size, 1)
    g = columns2d(x_shape, kernel_size, dilation, padding, stride)
    if count != g.OH * g.OW:
        raise ValueError(f"columns are {count} per image (shape {tuple(columns_shape)}); expected "
                         f"{g.OH * g.OW}, the {g.OH} x {g.OW} windows on the output")
    return g


def not_negative(name, value):
    """Return `value` as a float of at least 0, or refuse it by name."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} is {value!r}; expected a number of at least 0")
    return number


def norm2d(x_shape, groups=None, over_batch=False, fixed=False):
    """Return (B, G): statistics of G groups of channels, of each image (B = N) or over the batch (B = 1)."""
    N, C, H, W = x_shape
    G = C if groups is None else integer("groups", groups, 1)
    if G < 1 or C % G:
        raise ValueError(f"groups is {G} and x has {C} channels (shape {tuple(x_shape)}); expected a divisor of the "
                         "channels")
    B = 1 if over_batch else N
    if B and not fixed and N // B * (C // G) * H * W == 1:
        raise ValueError(f"x has shape {tuple(x_shape)}, one value per group, which is its own mean; expected more "
                         "than one: larger maps, more channels per group, or for batch norm more images")
    return B, G


def unpool2d(x_shape, kernel_size, stride=None, padding=0, output_size=None):
    """Geometry of the pooling that an unpooling undoes: `x_shape` is its output, `output_size` its input's.

    Several sizes pool to the same: without `output_size` it is the smallest, (OH - 1) SH - 2 PH + KH.
    """
    N, C, OH, OW = x_shape
    (KH, KW), (SH, SW), (PH, PW), _ = pool2d_window(kernel_size, stride, padding)
    if OH < 1 or OW < 1:
        raise ValueError(f"x has planes of {OH} x {OW}; expected at least 1 x 1")
    least = (OH - 1) * SH - 2 * PH + KH, (OW - 1) * SW - 2 * PW + KW
    H, W = least
    if output_size is not None:
        whole = isinstance(output_size, (tuple, list)) and len(output_size) == 4
        H, W = pair("output_size", output_size[2:] if whole else output_size, 0)
    if not (abs(H - least[0]) < SH and abs(W - least[1]) < SW):
        raise ValueError(f"output_size is {(H, W)}; expected {least[0]} x {least[1]}, or less than the stride "
                         f"{(SH, SW)} away from it")
    if min(H, W) < 1:
        raise ValueError(f"output_size is {(H, W)}; expected at least 1 x 1: use less padding")
    return Pool2d(N, C, H, W, KH, KW, SH, SW, PH, PW, 1, 1, OH, OW)


def adaptive_pool2d(x_shape, output_size):
    """Return (N, C, OH, OW) of an adaptive pooling; None in `output_size` keeps that size of `x`."""
    N, C, H, W = x_shape
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    OH, OW = pair("output_size", [size if wanted is None else wanted for wanted, size in zip(sizes, (H, W))]
                  if len(sizes) == 2 else sizes, 1)  # fmt: skip
    if H < 1 or W < 1:
        raise ValueError(f"x has planes of {H} x {W}; expected at least 1 x 1")
    return N, C, OH, OW


def layer_norm(x_shape, normalized_shape):
    """Return (rows, features): how often, and how many values, a layer norm normalises."""
    wanted = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    wanted = tuple(integer("normalized_shape", size, 1) for size in wanted)
    axes = len(wanted)
    if not axes or tuple(x_shape[len(x_shape) - axes :]) != wanted or axes > len(x_shape):
        raise ValueError(f"x has shape {tuple(x_shape)}; expected its last {axes} axes to be {wanted}, the "
                         "normalized_shape")
    return math.prod(x_shape[: len(x_shape) - axes]), math.prod(wanted)
