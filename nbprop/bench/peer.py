"""PyTorch, if it is installed, in the two memory formats it can be fast in."""

import importlib.util

import numpy as np

__all__ = ["FORMATS", "find_torch", "set_threads", "tensor"]

FORMATS = ("nchw", "channels_last")


def find_torch():
    """Return the torch module, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch


def set_threads(count, torch=None):
    """Give both sides the same number of threads.

    Raises
    ------
    ValueError
        If Numba was started with fewer.
    """
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= most:
        raise ValueError(f"--threads is {count}; expected 1 to {most}, what Numba has started with: set "
                         "the environment variable NUMBA_NUM_THREADS for more")
    numba.set_num_threads(count)
    if torch is not None:
        torch.set_num_threads(count)


def tensor(torch, array, form, device="cpu"):
    """Copy a NumPy array into a tensor on `device`; arrays of rank 4 in the memory format `form`."""
    copied = torch.from_numpy(np.array(array, order="C")).to(device, copy=True)  # into torch's own, aligned memory
    if form == "channels_last" and array.ndim == 4:
        return copied.contiguous(memory_format=torch.channels_last)
    return copied
