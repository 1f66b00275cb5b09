"""exp, log, tanh and their kin: within 2 ulp over the whole range, and IEEE at its ends."""

import math

import numba
import numpy as np
import pytest

from nbprop.ops import vecmath

# Where long double is double, float64 has no oracle of its own precision and is given 1 ulp more.
EXTENDED = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps / 100
FUNCTIONS = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
every = pytest.mark.parametrize("name", FUNCTIONS)
both = pytest.mark.parametrize("T", [np.float32, np.float64])


def points(T, count=100_000):
    """Random bit patterns, the usual range, the ends of the range, and special values."""
    rng = np.random.default_rng(0)
    info = np.finfo(T)
    size = {np.float32: np.uint32, np.float64: np.uint64}[T]
    end = 110 if T is np.float32 else 750
    special = [0, np.inf, np.nan, info.tiny, info.tiny / 3, info.smallest_subnormal, info.max, info.eps, 1]
    return np.concatenate([
        rng.integers(0, np.iinfo(size).max, count, dtype=size).view(T),
        (3 * rng.standard_normal(count)).astype(T),
        rng.uniform(-1.5, 1.5, count).astype(T),
        rng.uniform(-end, end, count).astype(T),
        np.array(special, T),
        -np.array(special, T),
    ])  # fmt: skip


def apply(name, x):
    function = getattr(vecmath, name)

    @numba.njit(error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    y = np.empty_like(x)
    loop(x, y)
    return y, loop


@every
@both
def test_within_two_ulp(name, T):
    x = points(T)
    y, _ = apply(name, x)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name](x.astype(np.longdouble if T is np.float64 else np.float64))
        rounded = exact.astype(T)
        unit = np.spacing(np.maximum(np.abs(rounded), np.finfo(T).tiny))
        finite = np.isfinite(rounded) & np.isfinite(y)
        ulp = np.where(finite, np.abs(y - exact) / unit, 0)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    limit = 2 if T is np.float32 or EXTENDED else 3
    assert ulp.max() <= limit, f"{ulp.max()} ulp at {x[ulp.argmax()]!r}"


@both
def test_erfc(T):
    x = points(T, 20_000)
    x = x[np.isfinite(x)]
    y, _ = apply("erfc", x)
    exact = np.array([math.erfc(v) for v in x.astype(np.float64)])
    unit = np.spacing(np.maximum(np.abs(exact.astype(T)), np.finfo(T).tiny)).astype(np.float64)
    with np.errstate(over="ignore"):
        assert (np.abs(y - exact) / unit <= 8 + x.astype(np.float64) ** 2).all()
    ends, _ = apply("erfc", np.array([-np.inf, np.inf, np.nan], T))
    np.testing.assert_array_equal(ends, np.array([2, 0, np.nan], T))


@every
def test_a_loop_becomes_vector_instructions(name):
    _, loop = apply(name, np.zeros(4, np.float32))
    code = next(iter(loop.inspect_llvm().values()))
    assert "x float> " in code


def test_maximum_keeps_nan():
    @numba.njit
    def largest(x):
        best = x[0]
        for i in range(x.size):
            best = vecmath.maximum(best, x[i])
        return best

    for T in (np.float32, np.float64):
        x = np.arange(100, dtype=T)
        assert largest(x) == 99
        x[37] = np.nan
        assert np.isnan(largest(x))


def test_constant_keeps_float32():
    @numba.njit
    def third(x):
        return vecmath.constant(1 / 3, x) * x

    third(np.float32(1))
    assert third.nopython_signatures[0].return_type == numba.float32
    assert third(1.0) == 1 / 3


@pytest.mark.parametrize("name", [*FUNCTIONS, "erfc"])
def test_from_python(name):
    x = np.float64(0.3)
    compiled, _ = apply(name, np.array([x]))
    assert getattr(vecmath, name)(x) == pytest.approx(compiled[0], rel=1e-15)
    assert vecmath.maximum(x, np.float64(2)) == 2
    assert vecmath.constant(0.1, x) == 0.1
