import numpy as np

from cuda_cases import Work, a, given, public, twin
from cuda_cases.conv import SMALL
from nbprop.shapes import Linear


def passes(N, K, O, relu=False, **options):
    g = Linear(N, K, O)
    w = given(lambda dtype: np.asarray(np.random.default_rng(0).standard_normal((K, O)), dtype).T)
    options = {"constants": SMALL, **options}
    return (
        twin("linear", "forward", a(N, K), w, a(O), a(N, O), g, relu, Work(g), **options),
        twin("linear", "backward_input", a(N, O), w, None, a(N, K), g, Work(g), **options),
        twin("linear", "backward_input", a(N, O), w, a(N, K), a(N, K), g, Work(g), **options),
        twin("linear", "backward_weight", a(N, O), a(N, K), w, a(O), g, Work(g), **options),
    )


CASES = [
    *passes(5, 7, 3),
    *passes(17, 20, 18, relu=True),
    public("linear", "linear_forward", a(4, 5), a(3, 5), constants=SMALL),
    public("linear", "linear_backward_weight", a(4, 3), a(4, 5), constants=SMALL),
    *passes(128, 784, 512, big=True),
    *passes(4096, 512, 512, big=True, dtypes=(np.float32,)),
]
