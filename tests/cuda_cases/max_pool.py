import numpy as np

from cuda_cases import a, given, public, twin
from nbprop import layout
from nbprop.ops.max_pool import max_pool2d_forward

PLAIN = (2, 2), (2, 2), (0, 0), (1, 1)
ODD = (3, 2), (2, 1), (1, 0), (1, 2)


def winners(*shape, **window):
    return given(lambda dtype: max_pool2d_forward(a(*shape).make(dtype, 1), **window)[1].astype(np.int32))


def nan(dtype):
    x = layout.empty((1, 4, 3, 3), dtype)
    x[...] = -3
    x[0, 1, 1, 1] = x[0, 1, 0, 2] = np.nan
    return x


CASES = [
    twin("max_pool", "max_pool2d_forward", a(2, 4, 5, 4), a(2, 4, 2, 2), a(2, 4, 2, 2, dtype=np.int32), *PLAIN),
    twin("max_pool", "max_pool2d_forward", a(1, 3, 5, 6), a(1, 3, 3, 4), a(1, 3, 3, 4, dtype=np.int32), *ODD),
    public("max_pool", "max_pool2d_forward", given(nan), named={"kernel_size": 2, "stride": 1, "padding": 1}),
    *(twin("max_pool", "max_pool2d_backward", a(2, 4, 2, 2), winners(2, 4, 5, 4, kernel_size=2), y, a(2, 4, 5, 4),
           *PLAIN) for y in (None, a(2, 4, 2, 2))),
    *(twin("max_pool", "max_pool2d_backward", a(1, 3, 3, 4),
           winners(1, 3, 5, 6, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), y, a(1, 3, 5, 6),
           *ODD) for y in (None, a(1, 3, 3, 4))),
    public("max_pool", "max_pool2d_backward", a(1, 2, 2, 3), winners(1, 2, 5, 6, kernel_size=2), (1, 2, 5, 6),
           named={"kernel_size": 2}),
    twin("max_pool", "max_pool2d_forward", a(4, 64, 57, 56), a(4, 64, 28, 28), a(4, 64, 28, 28, dtype=np.int32), (3, 3),
         (2, 2), (0, 0), (1, 1), big=True),
]
