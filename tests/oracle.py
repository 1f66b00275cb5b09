"""What the op tests share: odd arrays, central differences, comparisons of values and of bits."""

import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import strategies as st

HAVE_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAVE_TORCH, reason="torch is the second oracle")


def rng(*seed):
    return np.random.default_rng(seed)


def normal(shape, dtype=np.float64, seed=0):
    """Random values with no two alike, in channels-last memory if of rank 4."""
    from nbprop import layout

    a = layout.empty(shape, dtype)
    a[...] = rng(seed, *shape).standard_normal(shape)
    return a


def both(function, *args, **kwargs):
    """What `function` returns, and what it returns by the reference twins."""
    from nbprop import backend

    with backend.using("reference"):
        expected = function(*args, **kwargs)
    return function(*args, **kwargs), expected


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
    size = max(size, 1e-30)
    assert distance <= relative * size + 1e-300, f"relative distance {distance / size:.3e}"


TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}
dtypes = st.sampled_from([np.float32, np.float64])


def assert_same_bits(script):
    """Run `script`, whose `run()` returns arrays, on 1, 2 and 3 threads of a process of its own, and cut for 40."""
    code = f"""
import hashlib
import numba
import numpy as np
from nbprop import jit
{script}
def digest(threads):
    numba.set_num_threads(threads)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in run())).hexdigest()
digests = [digest(threads) for threads in (1, 2, 3)]
jit.threads = lambda: 40
digests.append(digest(3))
assert len(set(digests)) == 1, digests
print("compared")
"""
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "NUMBA_NUM_THREADS": "3"})
    assert (done.returncode, done.stdout) == (0, "compared\n"), done.stdout + done.stderr


@contextlib.contextmanager
def cut(constants):
    """Cut dense ops by other constants, {"dense._BLOCK": ...}: tiny arrays then cross every edge of a plan."""
    from nbprop import scratch
    from nbprop.ops import correlate, dense, lanewise_outer, outer
    from nbprop.ops.conv import spread, wide

    modules = {"dense": dense, "correlate": correlate, "outer": outer, "lanewise_outer": lanewise_outer,
               "spread": spread, "wide": wide}  # fmt: skip
    cached = correlate.plan, outer.plan, lanewise_outer.plan, wide.forward, wide.phases, spread.phases
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            module, constant = name.split(".")
            patch.setattr(modules[module], constant, value)
        patch.setattr(scratch, "_own", scratch._Own())  # where nothing cut otherwise is kept
        for plans in cached:
            plans.cache_clear()
        try:
            yield
        finally:
            for plans in cached:
                plans.cache_clear()
