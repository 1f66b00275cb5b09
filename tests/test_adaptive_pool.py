"""Adaptive pooling: the written form against central differences, the fast twins against it, and torch."""

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
    rng,
)

import nbprop
from nbprop import backend, nn
from nbprop.ops.adaptive_pool import (
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
    adaptive_max_pool2d_backward,
    adaptive_max_pool2d_forward,
)

# Also more windows than positions: they then overlap and repeat.
sizes = st.tuples(*[st.integers(1, 13)] * 4)
channels = st.sampled_from([1, 2, 3, 7, 16, 17, 33, 70])


def integers(shape, dtype, seed=0):
    """Small integers, so that windows have ties and sums are exact in any order."""
    return rng(seed, *shape).integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("output_size", [1, (2, 3), (4, 7), (5, None)], ids=str)
def test_reference_gradient(output_size):
    x = normal((2, 2, 5, 6))
    with backend.using("reference"):
        dy = normal(adaptive_avg_pool2d_forward(x, output_size).shape, seed=1)
        dx = adaptive_avg_pool2d_backward(dy, x.shape)
        assert_close(dx, numeric_gradient(lambda v: adaptive_avg_pool2d_forward(v, output_size), x, dy), 1e-7)
        _, indices = adaptive_max_pool2d_forward(x, output_size)
        dx = adaptive_max_pool2d_backward(dy, indices, x.shape)
        numeric = numeric_gradient(lambda v: adaptive_max_pool2d_forward(v, output_size)[0], x, dy)
        assert_close(dx, numeric, 1e-7)


@given(sizes, st.integers(1, 3), channels, dtypes)
@settings(max_examples=40)
def test_cpu_as_reference(size, N, C, dtype):
    x, output_size = normal((N, C, *size[:2]), dtype), size[2:]
    tolerance = TOLERANCE[np.dtype(dtype)]
    y, expected = both(adaptive_avg_pool2d_forward, x, output_size)
    assert_close(y, expected, tolerance)
    dx, expected = both(adaptive_avg_pool2d_backward, normal(y.shape, dtype, 1), x.shape)
    assert_close(dx, expected, tolerance)
    x = integers(x.shape, dtype)
    (y, indices), (expected, winners) = both(adaptive_max_pool2d_forward, x, output_size)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, winners)
    dx, expected = both(adaptive_max_pool2d_backward, integers(y.shape, dtype, 1), indices, x.shape)
    np.testing.assert_array_equal(dx, expected)
    assert (y.dtype, indices.dtype, dx.dtype) == (dtype, np.int64, dtype)


@pytest.mark.parametrize("shape, size", [((3, 33, 31, 29), 1), ((1, 130, 31, 29), 1), ((3, 33, 31, 29), 7),
                                         ((3, 5, 70, 71), (9, 1))])  # fmt: skip
def test_cpu_as_reference_on_many_threads(shape, size):
    x = normal(shape, np.float32)
    y, expected = both(adaptive_avg_pool2d_forward, x, size)
    assert_close(y, expected, 1e-6)
    dx, expected = both(adaptive_avg_pool2d_backward, y, shape)
    assert_close(dx, expected, 1e-6)
    (y, indices), (expected, winners) = both(adaptive_max_pool2d_forward, x, size)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, winners)
    dx, expected = both(adaptive_max_pool2d_backward, y, indices, shape)
    np.testing.assert_array_equal(dx, expected)


@needs_torch
@given(sizes, st.integers(1, 3), channels, dtypes)
@settings(max_examples=40)
def test_as_torch(size, N, C, dtype):
    import torch

    x, output_size = normal((N, C, *size[:2]), dtype), size[2:]
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    expected = torch.nn.functional.adaptive_avg_pool2d(t, output_size)
    y, tolerance = adaptive_avg_pool2d_forward(x, output_size), TOLERANCE[np.dtype(dtype)]
    assert_close(y, expected.detach().numpy(), tolerance)
    dy = normal(y.shape, dtype, 1)
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    assert_close(adaptive_avg_pool2d_backward(dy, x.shape), t.grad.numpy(), tolerance)
    t.grad = None
    expected, winners = torch.nn.functional.adaptive_max_pool2d(t, output_size, return_indices=True)
    y, indices = adaptive_max_pool2d_forward(x, output_size)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(indices, winners.numpy())
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    assert_close(adaptive_max_pool2d_backward(dy, indices, x.shape), t.grad.numpy(), tolerance)


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_ties_and_nan(name):
    nan, inf = np.nan, np.inf
    x = np.array([[5, 5, nan, 9], [5, 5, 9, nan], [-1, -2, -inf, -inf], [-3, -1, -inf, -inf]], np.float32)
    with backend.using(name):
        y, indices = adaptive_max_pool2d_forward(x[None, None], 2)
        np.testing.assert_array_equal(y[0, 0], [[5, nan], [-1, -inf]])
        np.testing.assert_array_equal(indices[0, 0], [[0, 2], [8, 10]])
        np.testing.assert_array_equal(adaptive_avg_pool2d_forward(x[None, None], 2)[0, 0],
                                      [[5, nan], [-1.75, -inf]])  # fmt: skip


def test_adjoint_at_full_size():
    x, dy = normal((8, 64, 56, 56)), normal((8, 64, 7, 9), seed=1)
    nbprop.adjoint_check(lambda v: adaptive_avg_pool2d_forward(v, (7, 9)),
                         lambda v: adaptive_avg_pool2d_backward(v, x.shape), x, dy)  # fmt: skip


def test_memory_orders():
    x = normal((2, 3, 7, 8), np.float32)
    mean = adaptive_avg_pool2d_forward(x, (3, 5))
    y, winners = adaptive_max_pool2d_forward(x, (3, 5))
    dy = normal(y.shape, np.float32, 1)
    gradients = adaptive_avg_pool2d_backward(dy, x.shape), adaptive_max_pool2d_backward(dy, winners, x.shape)
    for (name, v), (_, d), (_, i) in zip(memory_orders(x), memory_orders(dy), memory_orders(winners)):
        np.testing.assert_array_equal(adaptive_avg_pool2d_forward(v, (3, 5)), mean, err_msg=name)
        for mine, theirs in zip(adaptive_max_pool2d_forward(v, (3, 5)), (y, winners)):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
        np.testing.assert_array_equal(adaptive_avg_pool2d_backward(d, x.shape), gradients[0], err_msg=name)
        np.testing.assert_array_equal(adaptive_max_pool2d_backward(d, i, x.shape), gradients[1], err_msg=name)
        np.testing.assert_array_equal(v, x, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops import adaptive_pool as a
def run():
    for shape, size in [((3, 33, 40, 41), 1), ((1, 130, 40, 41), (1, 3)), ((3, 33, 40, 41), (7, 50))]:
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        y = a.adaptive_avg_pool2d_forward(x, size)
        yield from (y, a.adaptive_avg_pool2d_backward(y, shape))
        y, i = a.adaptive_max_pool2d_forward(x, size)
        yield from (y, i, a.adaptive_max_pool2d_backward(y, i, shape))
""")


def test_layers():
    x = normal((4, 3, 8, 9), np.float32)
    dy = normal((4, 3, 2, 9), np.float32, 1)
    average, largest = nn.AdaptiveAvgPool2d((2, None)), nn.AdaptiveMaxPool2d((2, None), return_indices=True)
    y, (best, indices) = average(x), largest(x)
    np.testing.assert_array_equal(y, adaptive_avg_pool2d_forward(x, (2, 9)))
    np.testing.assert_array_equal(best, adaptive_max_pool2d_forward(x, (2, 9))[0])
    np.testing.assert_array_equal(indices, adaptive_max_pool2d_forward(x, (2, 9))[1])
    np.testing.assert_array_equal(nn.AdaptiveMaxPool2d((2, None))(x), best)
    expected = adaptive_avg_pool2d_backward(dy, x.shape), adaptive_max_pool2d_backward(dy, indices, x.shape)
    for layer, gradient in zip((average, largest), expected):
        dx = layer.backward(np.ascontiguousarray(dy))
        np.testing.assert_array_equal(dx, gradient)
        assert layer.backward(dy, input_gradient=False) is None
        kept = y.copy()
        layer(-x)
        np.testing.assert_array_equal(y, kept)  # what a call returned is the caller's
        assert layer.backward(dy) is dx
    nbprop.gradcheck(nn.AdaptiveAvgPool2d(3), normal((2, 3, 7, 8)))


def test_empty_batch():
    x = np.zeros((0, 3, 8, 8), np.float32)
    for layer in (nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)):
        assert layer(x).shape == (0, 3, 1, 1)
        assert layer.backward(np.zeros((0, 3, 1, 1), np.float32)).shape == x.shape


def test_bad_input():
    x = normal((1, 2, 6, 6))
    for bad, message in [(0, "output_size is 0; expected an integer of at least 1"),
                         ((2, 2, 2), "output_size is .*; expected an integer or a pair"),
                         (2.5, "output_size is 2.5; expected an integer")]:  # fmt: skip
        for layer in nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d:
            with pytest.raises(ValueError, match=message):
                layer(bad)
        for forward in adaptive_avg_pool2d_forward, adaptive_max_pool2d_forward:
            with pytest.raises(ValueError, match=message):
                forward(x, bad)
    with pytest.raises(ValueError, match="x has planes of 0 x 6; expected at least 1 x 1"):
        nn.AdaptiveAvgPool2d(1)(x[:, :, :0])
    with pytest.raises(ValueError, match=r"x has shape \(2, 6, 6\); expected \(N, C, H, W\)"):
        nn.AdaptiveAvgPool2d(1)(x[0])
    y, indices = adaptive_max_pool2d_forward(x, 2)
    with pytest.raises(ValueError, match=r"x_shape is \(1, 3, 6, 6\); expected \(N, C, H, W\) with"):
        adaptive_max_pool2d_backward(y, indices, (1, 3, 6, 6))
    with pytest.raises(ValueError, match="indices are float64; expected the int64 array"):
        adaptive_max_pool2d_backward(y, y, x.shape)
    for wrong in (-1, 36, 3, 18):  # outside the plane, or of another window
        bad = indices.copy()
        bad[0, 1, 0, 0] = wrong
        with pytest.raises(ValueError, match=r"not a position h \* 6 \+ w of its own window"):
            adaptive_max_pool2d_backward(y, bad, x.shape)
    layer = nn.AdaptiveAvgPool2d(2)
    layer(x)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 6, 6\); expected \(1, 2, 2, 2\)"):
        layer.backward(x)
