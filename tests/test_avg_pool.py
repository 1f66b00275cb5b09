"""Average pooling: textbook loops against central differences, the fast twin against them, and torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    TOLERANCE,
    assert_close,
    assert_same_bits,
    both,
    dtypes,
    memory_orders,
    needs_torch,
    normal,
    numeric_gradient,
)

from nbprop import backend, nn
from nbprop.ops.avg_pool import avg_pool2d_backward, avg_pool2d_forward


@st.composite
def poolings(draw):
    """An input shape and arguments that fit it."""
    kernel, stride, padding, size = [], [], [], []
    for _ in range(2):
        k = draw(st.integers(1, 5))
        p = draw(st.integers(0, k // 2))
        kernel.append(k)
        stride.append(draw(st.integers(1, 6)))
        padding.append(p)
        size.append(draw(st.integers(max(1, k - 2 * p), 13)))
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7, 16, 17, 33])), *size)
    return shape, {"kernel_size": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding),
                   "ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans()),
                   "divisor_override": draw(st.sampled_from([None, None, 1, 3]))}


@pytest.mark.parametrize("kwargs", [
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "count_include_pad": False},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "stride": 4, "divisor_override": 3},
], ids=str)
def test_reference_gradient(kwargs):
    x = normal((2, 2, 6, 7))
    with backend.using("reference"):
        dy = normal(avg_pool2d_forward(x, **kwargs).shape, seed=1)
        dx = avg_pool2d_backward(dy, x.shape, **kwargs)
        numeric = numeric_gradient(lambda v: avg_pool2d_forward(v, **kwargs), x, dy)
    assert_close(dx, numeric, 1e-7)


def test_the_error_is_divided_by_the_window():
    """Seed 001 multiplies it: of a constant error of 1, each of 2 x 2 elements gets a quarter."""
    dx = avg_pool2d_backward(np.ones((1, 1, 2, 2)), (1, 1, 4, 4), 2)
    np.testing.assert_array_equal(dx, np.full((1, 1, 4, 4), 0.25))


@given(poolings(), dtypes)
@settings(max_examples=80)
def test_cpu_as_reference(case, dtype):
    shape, kwargs = case
    y, expected = both(avg_pool2d_forward, normal(shape, dtype), **kwargs)
    assert_close(y, expected, TOLERANCE[np.dtype(dtype)])
    dx, expected = both(avg_pool2d_backward, normal(y.shape, dtype, 1), shape, **kwargs)
    assert_close(dx, expected, TOLERANCE[np.dtype(dtype)])
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("shape, stride", [((5, 16, 31, 33), 2), ((3, 7, 61, 67), 3), ((2, 33, 29, 31), 1)])
def test_cpu_as_reference_on_many_threads(shape, stride):
    y, expected = both(avg_pool2d_forward, normal(shape, np.float32), 2, stride)
    assert_close(y, expected, 2e-6)
    dx, expected = both(avg_pool2d_backward, normal(y.shape, np.float32, 1), shape, 2, stride)
    assert_close(dx, expected, 2e-6)


@needs_torch
@given(poolings(), dtypes)
@settings(max_examples=60)
def test_as_torch(case, dtype):
    import torch

    shape, kwargs = case
    x = normal(shape, dtype)
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    expected = torch.nn.functional.avg_pool2d(t, **kwargs)
    y = avg_pool2d_forward(x, **kwargs)
    assert_close(y, expected.detach().numpy(), TOLERANCE[np.dtype(dtype)])
    dy = normal(y.shape, dtype, 1)
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    assert_close(avg_pool2d_backward(dy, shape, **kwargs), t.grad.numpy(), TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_nan_and_infinity_stay_in_their_windows(name):
    x = np.ones((1, 17, 3, 6), np.float32)
    x[:, :, 0, 1], x[:, :, 2, 5] = np.nan, np.inf
    with backend.using(name):
        y = avg_pool2d_forward(x, 3)
        np.testing.assert_array_equal(y[0, :, 0], np.tile(np.float32([np.nan, np.inf]), (17, 1)))
        dx = avg_pool2d_backward(y, x.shape, 3)
        np.testing.assert_array_equal(np.isnan(dx[0, 0]), np.tile([True] * 3 + [False] * 3, (3, 1)))
        dy = np.full((1, 17, 4, 4), np.inf, np.float32)
        assert (avg_pool2d_backward(dy, (1, 17, 5, 5), 2, 1) == np.inf).all()


def test_memory_orders():
    x = normal((2, 3, 7, 8), np.float32)
    kwargs = {"kernel_size": 3, "stride": 2, "padding": 1}
    expected = avg_pool2d_forward(x, **kwargs)
    dy = normal(expected.shape, np.float32, 1)
    gradient = avg_pool2d_backward(dy, x.shape, **kwargs)
    for name, v in memory_orders(x):
        np.testing.assert_array_equal(avg_pool2d_forward(v, **kwargs), expected, err_msg=name)
        np.testing.assert_array_equal(v, x, err_msg=name)
    for name, v in memory_orders(dy):
        np.testing.assert_array_equal(avg_pool2d_backward(v, x.shape, **kwargs), gradient, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.avg_pool import avg_pool2d_backward, avg_pool2d_forward
def run():
    for shape, k, s in [((3, 33, 40, 41), 2, 2), ((3, 33, 40, 41), 3, 1), ((1, 33, 40, 41), 3, 2)]:
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        y = avg_pool2d_forward(x, k, s)
        yield from (y, avg_pool2d_backward(y, shape, k, s))
""")


@pytest.mark.parametrize("kwargs", [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 2, "divisor_override": 3},
], ids=str)
def test_layer(kwargs):
    x = normal((4, 3, 8, 8), np.float32)
    layer = nn.AvgPool2d(**kwargs)
    expected = avg_pool2d_forward(x, **kwargs)
    y = layer(x)
    np.testing.assert_array_equal(y, expected)
    dy = normal(y.shape, np.float32, 1)
    dx = layer.backward(np.ascontiguousarray(dy))
    np.testing.assert_array_equal(dx, avg_pool2d_backward(dy, x.shape, **kwargs))
    assert layer.backward(dy, input_gradient=False) is None
    layer(-x)
    np.testing.assert_array_equal(y, expected)  # what a call returned is the caller's
    assert layer.backward(dy) is dx


def test_empty_batch():
    layer = nn.AvgPool2d(2)
    y = layer(np.zeros((0, 3, 8, 8), np.float32))
    assert y.shape == (0, 3, 4, 4)
    assert layer.backward(y).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("kwargs, message", [
    ({"kernel_size": 0}, "kernel_size is 0; expected an integer of at least 1"),
    ({"kernel_size": True}, "kernel_size is True; expected an integer of at least 1"),
    ({"kernel_size": 2, "stride": 0}, "stride is 0"),
    ({"kernel_size": 2, "padding": 2}, r"padding is \(2, 2\); expected at most half of kernel_size"),
    ({"kernel_size": 5}, "x has height 4, padded to 4; expected at least the kernel's reach of 5"),
    ({"kernel_size": 2, "divisor_override": 0}, "divisor_override is 0; expected an integer of at least 1"),
])
def test_bad_sizes(kwargs, message):
    x = np.zeros((1, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match=message):
        avg_pool2d_forward(x, **kwargs)
    with pytest.raises(ValueError, match=message):
        nn.AvgPool2d(**kwargs)(x)


def test_bad_arrays():
    x = normal((1, 2, 4, 4), np.float32)
    with pytest.raises(ValueError, match="x is a list; expected a NumPy array"):
        avg_pool2d_forward([[1.0]], 2)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 4, 4\); expected \(1, 2, 2, 2\)"):
        avg_pool2d_backward(x, x.shape, 2)
    layer = nn.AvgPool2d(2)
    y = layer(x)
    with pytest.raises(ValueError, match="dy and y have different dtypes"):
        layer.backward(y.astype(np.float64))
    with pytest.raises(TypeError, match="dilation"):
        nn.AvgPool2d(2, dilation=2)
