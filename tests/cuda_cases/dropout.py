import numpy as np

from cuda_cases import a, given, public, twin


def _ones(dtype):
    return np.ones(5000, dtype)


CASES = [
    twin("dropout", "dropout_forward", given(_ones), a(5000), 0.3, 7, 2),  # beyond one block of the hash
    twin("dropout", "dropout_backward", a(31), a(31), 0.5, 2**62, 3),
    *(public("dropout", "dropout_forward", a(2, 3, 1, 2), p, 5, 1) for p in (0.0, 0.25, 1.0)),
    public("dropout", "dropout_backward", a(3, 5), 0.5, 5, 1),
]
