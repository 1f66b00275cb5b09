import numpy as np

from cuda_cases import a, given, public, twin
from nbprop.ops.adaptive_pool import adaptive_max_pool2d_forward


def winners(*shape, size):
    return given(lambda dtype: adaptive_max_pool2d_forward(a(*shape).make(dtype, 1), size)[1].astype(np.int32))


SHARED = {"_COLUMNS": 2, "_POSITIONS": 2}

CASES = [
    twin("adaptive_pool", "adaptive_avg_pool2d_forward", a(1, 4, 5, 4), a(1, 4, 3, 2)),
    twin("adaptive_pool", "adaptive_avg_pool2d_forward", a(2, 3, 5, 4), a(2, 3, 1, 1), constants=SHARED),
    twin("adaptive_pool", "adaptive_avg_pool2d_forward", a(2, 12, 7, 8), a(2, 12, 1, 2), constants=SHARED),
    twin("adaptive_pool", "adaptive_avg_pool2d_backward", a(1, 4, 3, 2), a(1, 4, 5, 4)),
    twin("adaptive_pool", "adaptive_avg_pool2d_backward", a(2, 3, 1, 1), a(2, 3, 5, 4)),
    twin("adaptive_pool", "adaptive_max_pool2d_forward", a(1, 4, 5, 4), a(1, 4, 3, 2), a(1, 4, 3, 2, dtype=np.int32)),
    twin("adaptive_pool", "adaptive_max_pool2d_backward", a(1, 3, 3, 2), winners(1, 3, 5, 4, size=(3, 2)),
         a(1, 3, 5, 4)),
    public("adaptive_pool", "adaptive_max_pool2d_backward", a(1, 3, 2, 2), winners(1, 3, 3, 3, size=2), (1, 3, 3, 3)),
    public("adaptive_pool", "adaptive_max_pool2d_forward", a(1, 3, 3, 3), 2),
    public("adaptive_pool", "adaptive_avg_pool2d_forward", a(1, 3, 3, 3), (2, 1)),
    public("adaptive_pool", "adaptive_avg_pool2d_backward", a(1, 3, 2, 1), (1, 3, 3, 3)),
    twin("adaptive_pool", "adaptive_avg_pool2d_forward", a(16, 512, 7, 7), a(16, 512, 1, 1), big=True),
]
