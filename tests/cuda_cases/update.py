import numpy as np

from cuda_cases import a, given, twin


def _positive(dtype):
    return np.linspace(0.1, 2, 11, dtype=dtype)


def _broken(dtype):
    return np.array([np.nan])


def _one_nan(dtype):
    x = np.ones(43, dtype)
    x[20] = np.nan
    return x


GATES = None, given(_broken)
W = a(11), a(11)

CASES = [
    *(twin("update", "sgd_update", *W, 0.1, 0.01, gate) for gate in GATES),
    *(twin("update", "sgd_momentum_update", *W, a(11), 0.1, 0.9, 0.2, 0.01, nesterov, gate)
      for nesterov, gate in ((False, None), (True, None), (False, GATES[1]))),
    *(twin("update", "adam_update", *W, a(11), given(_positive), 0.1, 0.9, 0.99, 1e-3, 0.01, decoupled, 3, gate)
      for decoupled, gate in ((False, None), (True, None), (False, GATES[1]))),
    *(twin("update", name, x, a(3, dtype=np.float64)) for name, x in
      (("squared_norms", a(43)), ("health", a(43)), ("health", given(_one_nan)))),
    twin("update", "sgd_update", a(1_000_003), a(1_000_003), 0.1, 0.01, None, big=True),
]
