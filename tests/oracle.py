"""What the op tests share: odd arrays, central differences, and comparison with torch where it is installed."""

import importlib.util

import numpy as np
from hypothesis import strategies as st

HAVE_TORCH = importlib.util.find_spec("torch") is not None


def rng(*seed):
    return np.random.default_rng(seed)


def normal(shape, dtype=np.float64, seed=0):
    """Random values with no two alike, in channels-last memory if of rank 4."""
    from nbprop import layout

    a = layout.empty(shape, dtype)
    a[...] = rng(seed, *shape).standard_normal(shape)
    return a


# The ways a caller's array can lie in memory: every public function must give the same answer for each.
def memory_orders(x):
    """Yield (name, array) with `x`'s values in different memory orders, some of them read-only."""
    yield "C order", np.array(x, order="C")
    yield "Fortran order", np.array(x, order="F")
    wide = np.zeros([2 * n for n in x.shape], x.dtype)[tuple(slice(None, None, 2) for _ in x.shape)]
    wide[...] = x
    yield "every second element", wide
    flipped = np.array(x[tuple(slice(None, None, -1) for _ in x.shape)], order="C")
    yield "negative strides", flipped[tuple(slice(None, None, -1) for _ in x.shape)]
    locked = np.array(x, order="K")
    locked.flags.writeable = False
    yield "read-only", locked


def numeric_gradient(f, x, dy, step=1e-6):
    """Central differences of sum(f(x) * dy) by every entry of x, in float64."""
    x = np.array(x, dtype=np.float64, order="C")
    gradient = np.empty_like(x)
    for i in np.ndindex(*x.shape):
        kept = x[i]
        x[i] = kept + step
        up = np.sum(f(x.copy()) * dy)
        x[i] = kept - step
        down = np.sum(f(x.copy()) * dy)
        x[i] = kept
        gradient[i] = (up - down) / (2 * step)
    return gradient


def assert_close(ours, expected, relative):
    """Relative l2 distance, and no NaN where none is expected."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
    distance = np.linalg.norm(np.nan_to_num(ours - expected))
    size = np.linalg.norm(np.nan_to_num(expected))
    assert distance <= relative * max(size, 1e-30) + 1e-300, f"relative distance {distance / max(size, 1e-30):.3e}"


TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}
dtypes = st.sampled_from([np.float32, np.float64])
