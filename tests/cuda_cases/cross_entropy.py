import numpy as np

from cuda_cases import a, given, public, twin


def _labels(dtype):
    return np.array([2, 0, -100, 10, 5, 2])


def _weight(dtype):
    return np.linspace(0.5, 2, 11, dtype=dtype)


def _distributions(dtype):
    q = np.random.default_rng(1).random((6, 11))
    return (q / q.sum(axis=1, keepdims=True)).astype(dtype)


def _pixels(dtype):
    return np.random.default_rng(2).integers(3, size=(2, 2, 2))


def _no_bad_row(dtype):
    return np.array([[-1.0, -1.0], [3.0, 2.0]])


def _bad_row(dtype):
    return np.array([[-1.0, 4.0], [3.0, 2.0]])


def _divisors(dtype):
    return np.array([1.5, 3.0])


LABELS, WEIGHT, Q = given(_labels), given(_weight), given(_distributions)
CHECKS = a(2, 2, dtype=np.float64)
FILLED = given(_divisors), a(6), a(6, 11)

CASES = [
    twin("cross_entropy", "check_labels", LABELS, WEIGHT, -100, CHECKS),
    twin("cross_entropy", "check_probabilities", Q, CHECKS),
    *(twin("cross_entropy", "from_labels", a(6, 11), LABELS, WEIGHT, -100, s, *FILLED) for s in (0.0, 0.1)),
    *(twin("cross_entropy", "from_probabilities", a(6, 11), Q, WEIGHT, s, *FILLED) for s in (0.0, 0.1)),
    *(twin("cross_entropy", "total", a(43), given(checks), given(_divisors), a(1, dtype=np.float64))
      for checks in (_no_bad_row, _bad_row)),
    public("cross_entropy", "cross_entropy_forward", a(6, 11), LABELS, reads=True),
    public("cross_entropy", "cross_entropy_forward", a(6, 11), Q, named={"reduction": "none"}, reads=True),
    public("cross_entropy", "cross_entropy_backward", a(2, 3, 2, 2), given(_pixels), named={"dy": 2.0}, reads=True),
    public("cross_entropy", "cross_entropy_backward", a(6, 11), LABELS, WEIGHT,
           named={"reduction": "none", "dy": 0.5}, reads=True),
    twin("cross_entropy", "from_probabilities", a(512, 1000), a(512, 1000), a(1000), 0.0, given(_divisors), a(512),
         a(512, 1000), big=True),
]
