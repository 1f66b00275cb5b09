import numpy as np

from cuda_cases import Work, a, public, twin
from cuda_cases.conv import SMALL


def passes(shape, **options):
    N, C, _, _ = shape
    options = {"constants": SMALL, **options}
    return (
        twin("gram", "gram_forward", a(*shape), a(N, C, C), np.float32(0.5), Work(shape), **options),
        twin("gram", "gram_backward", a(N, C, C), a(*shape), a(*shape), np.float32(0.5), Work(shape), **options),
    )


CASES = [
    *passes((2, 3, 3, 4)),
    *passes((1, 8, 3, 6)),
    public("gram", "gram_forward", a(2, 5, 2, 2), constants=SMALL),
    public("gram", "gram_backward", a(2, 4, 4), a(2, 4, 2, 2), named={"normalize": True}, constants=SMALL),
    *passes((8, 64, 64, 64), big=True, dtypes=(np.float32,)),
]
