import numpy as np

from cuda_cases import a, given, public, twin
from nbprop import layout


def positions(*shape, plane, dtype=np.int64):
    """Random ones, some of them alike."""
    def make(_):
        indices = layout.empty(shape, dtype)
        indices[...] = np.random.default_rng(5).integers(0, plane, shape)
        return indices

    return given(make)


CASES = [
    twin("max_unpool", "max_unpool2d_forward", a(2, 3, 2, 3), positions(2, 3, 2, 3, plane=24), a(2, 3, 4, 6)),
    twin("max_unpool", "max_unpool2d_forward", a(1, 4, 3, 3), positions(1, 4, 3, 3, plane=9, dtype=np.int32),
         a(1, 4, 6, 6)),
    public("max_unpool", "max_unpool2d_forward", a(1, 4, 2, 2), positions(1, 4, 2, 2, plane=16), 2),
    public("max_unpool", "max_unpool2d_backward", a(2, 3, 4, 6), positions(2, 3, 2, 3, plane=24), 2),
    public("max_unpool", "max_unpool2d_backward", a(1, 4, 4, 4), positions(1, 4, 2, 2, plane=4, dtype=np.int32), 2),
]
