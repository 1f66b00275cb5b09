"""The generator that initial weights are drawn from, and torch's default distribution."""

import numpy as np

__all__ = ["generator", "manual_seed", "uniform"]

_state = {"generator": np.random.default_rng(0)}


def manual_seed(seed):
    """Start the generator of initial weights (and of dropout masks) anew."""
    _state["generator"] = np.random.default_rng(seed)


def generator():
    """Return the generator in use."""
    return _state["generator"]


def uniform(shape, fan_in, dtype):
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch does for the weights and biases of its layers.

    torch calls it kaiming_uniform with a = sqrt(5): He et al. 2015, equation 10, with that gain.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype is {np.dtype(dtype)}; expected float32 or float64")
    bound = 1 / np.sqrt(fan_in) if fan_in else 0.0
    return generator().uniform(-bound, bound, shape).astype(dtype)
