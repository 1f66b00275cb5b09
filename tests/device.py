"""What the tests of the GPU run on: one, the simulator (NUMBA_ENABLE_CUDASIM=1), or the compiler alone."""

import importlib
import importlib.util
import os

import pytest

__all__ = ["COMPILER", "KERNELS", "SIMULATED", "here"]

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"
INSTALLED = importlib.util.find_spec("numba_cuda") is not None


def _usable():
    """Say whether there is something to run kernels on."""
    if not INSTALLED or SIMULATED:
        return INSTALLED
    from numba import cuda

    return cuda.is_available()


# Marks of a module whose tests run kernels, and of one whose tests only compile them.
KERNELS = [pytest.mark.gpu, pytest.mark.skipif(not _usable(), reason="neither a GPU nor NUMBA_ENABLE_CUDASIM=1")]
COMPILER = pytest.mark.skipif(not INSTALLED or SIMULATED, reason="numba-cuda is not installed, or simulated")


def here(values):
    """Copy what is on the GPU to the host."""
    gpu = importlib.import_module("nbprop.gpu")
    values = values if isinstance(values, (tuple, list)) else (values,)
    return [gpu.to_host(v) if isinstance(v, gpu.Array) else v for v in values]
