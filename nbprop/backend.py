"""Which of an op's three twins serves a call: numpy arrays go to `cpu`, device arrays to `cuda`.

    with nbprop.using("reference"):
        y = model(x)            # the plain loops, for reading along or for checking
"""

import contextlib
import contextvars
import functools
import importlib

from nbprop import layout

__all__ = ["forced", "name", "to_device", "to_host", "twin", "using"]

_forced = contextvars.ContextVar("nbprop_backend", default=None)
forced = _forced.get  # the name of the backend that `using` asks for, or None


@contextlib.contextmanager
def using(name):
    """Run the enclosed calls on the named backend: "reference", "cpu" or "cuda".

    Raises
    ------
    ValueError
        If `name` is none of the three.
    """
    if name not in ("reference", "cpu", "cuda"):
        raise ValueError(f'backend is {name!r}; expected "reference", "cpu" or "cuda"')
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def twin(op, x):
    """Return the module of op `op` (a folder of nbprop.ops) that computes on arrays like `x`."""
    return _module(op, name(x))


def name(x):
    """Return the name of the backend that computes on arrays like `x`."""
    return _forced.get() or ("cuda" if hasattr(x, "__cuda_array_interface__") else "cpu")


def to_device(x):
    """Copy a NumPy array to the GPU, with its shape and memory order; every op then computes there.

    Raises
    ------
    ImportError, RuntimeError
        Saying what is missing: numba-cuda, a driver, a toolkit, a GPU that is new enough.
    MemoryError
        If the GPU has no room; what is there stays usable.
    """
    return layout.gpu().to_device(x)


def to_host(x):
    """Copy an array on the GPU, ours or another library's, to a NumPy array."""
    return layout.gpu().to_host(x)


@functools.cache
def _module(op, name):
    return importlib.import_module(f"nbprop.ops.{op}.{name}")
