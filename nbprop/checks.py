"""What is checked of every array that comes in: its kind, rank, shape, dtype, and where its memory is."""

import operator

import numpy as np

from nbprop import layout

__all__ = ["check_array", "check_same_dtype", "check_same_place", "check_shape", "sizes"]


def check_array(name, x, ndim=None):
    """Return an array of float32 or float64 and the given rank (an int or a tuple of ints), or refuse it.

    What comes back is `x` itself, or a view of the memory of another library's array on the GPU.
    """
    if not isinstance(x, np.ndarray):
        if layout.on_gpu(x):
            x = layout.gpu().as_array(x)
        if not hasattr(x, "dtype") or not hasattr(x, "strides"):
            raise ValueError(f"{name} is a {type(x).__name__}; expected a NumPy array of float32 or float64")
    if x.dtype not in _DTYPES:
        raise ValueError(f"{name} has dtype {x.dtype}; expected float32 or float64: convert it with "
                         f"{name}.astype(np.float32)")
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and x.ndim not in ranks:
        layouts = _WEIGHTS if name in ("w", "w_shape") else _LAYOUTS
        wanted = " or ".join(layouts.get(n, f"{n} axes") for n in ranks)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {wanted}")
    return x


_DTYPES = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
_LAYOUTS = {1: "one axis", 2: "(N, features)", 4: "(N, C, H, W)"}
_WEIGHTS = {2: "(out_features, in_features)", 4: "(O, C / groups, KH, KW)"}


def sizes(name, shape, ndim):
    """Return a shape argument as a tuple of `ndim` ints, or refuse it by name."""
    try:
        numbers = tuple(operator.index(n) for n in shape)
    except TypeError:
        numbers = ()
    if len(numbers) != ndim or min(numbers) < 0:
        raise ValueError(f"{name} is {shape!r}; expected a shape of {ndim} sizes")
    return numbers


def check_shape(name, x, shape):
    """Refuse an array whose shape is not exactly `shape`."""
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {tuple(shape)}")


def check_same_dtype(**arrays):
    """Refuse arrays of different dtypes, or in different places; absent ones (None) are passed over."""
    if len({(type(a), a.dtype) for a in arrays.values() if a is not None}) <= 1:  # as nearly always
        return
    check_same_place(**arrays)
    present = {name: a.dtype for name, a in arrays.items() if a is not None}
    if len(set(present.values())) > 1:
        came = ", ".join(f"{name} {dtype}" for name, dtype in present.items())
        raise ValueError(f"{' and '.join(present)} have different dtypes ({came}); expected one dtype for all")


def check_same_place(**arrays):
    """Refuse arrays of which some are on the GPU and some are not; absent ones (None) are passed over."""
    if len({type(a) for a in arrays.values() if a is not None}) > 1:
        there = [name for name, a in arrays.items() if layout.on_gpu(a)]
        here = [name for name, a in arrays.items() if a is not None and name not in there]
        if there and here:
            raise ValueError(f"{' and '.join(there)} came on the GPU but {' and '.join(here)} on the CPU; expected all "
                             "in one place: copy with nbprop.to_device")
