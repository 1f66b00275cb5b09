import numpy as np

from cuda_cases import Work, a, given, public, twin
from nbprop import layout


def sums(N):
    return a(N, 1, dtype=np.float64)


def flat(dtype):
    return layout.full((1, 2, 3, 3), 1, dtype)


SMALL = {"_ROWS": 2}

CASES = [
    twin("tv", "total_variation", a(2, 3, 5, 3), False, 0.0, 0.5, a(2, 3, 5, 3), sums(2), Work((2, 3, 5, 3)),
         constants=SMALL),
    twin("tv", "total_variation", a(1, 2, 3, 4), True, 0.1, 1.0, a(1, 2, 3, 4), sums(1), Work((1, 2, 3, 4)),
         constants=SMALL),
    twin("tv", "totals", sums(3), 0.5, a(1, dtype=np.float64)),
    twin("tv", "totals", sums(3), 1.0, a(3, dtype=np.float64)),
    public("tv", "total_variation_forward", a(2, 1, 2, 3), named={"reduction": "none"}),
    public("tv", "total_variation_forward", a(2, 1, 2, 3), named={"reduction": "mean"}),
    public("tv", "total_variation_backward", given(flat)),
    public("tv", "total_variation_backward", a(1, 3, 4, 2), named={"eps": 0.1, "reduction": "mean"}),
]
