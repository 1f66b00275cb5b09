import numpy as np

from cuda_cases import a, given, twin


def _labels(dtype):
    return np.random.default_rng(0).integers(3, size=11)


def _empty(dtype):
    return np.zeros(6)


def _broken(dtype):
    return np.array([1.0, np.nan, 2.0])


DATA = a(11, 3), given(_labels), given(_empty)

CASES = [
    twin("tally", "count_step", a(1, dtype=np.float64), 11, a(7, dtype=np.float64), *DATA),
    twin("tally", "count_step", a(1, dtype=np.float64), 11, given(_broken), *DATA),
]
