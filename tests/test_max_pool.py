"""Max pooling: textbook loops against central differences, the fast twin against them, and torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
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

from nbprop import backend, nn
from nbprop.ops.max_pool import max_pool2d_backward, max_pool2d_forward


@st.composite
def poolings(draw):
    """An input shape and arguments that fit it."""
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        k, d = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        kernel.append(k)
        stride.append(draw(st.integers(1, 6)))
        padding.append(draw(st.integers(0, k // 2)))
        dilation.append(d)
        # With the whole reach inside, each window has a winner.
        size.append(d * (k - 1) + 1 + draw(st.integers(0, 11)))
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7, 16, 17, 33])), *size)
    return shape, {"kernel_size": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding),
                   "dilation": tuple(dilation), "ceil_mode": draw(st.booleans())}


def integers(shape, dtype, seed=0):
    """Small integers, so that windows have ties and sums are exact in any order."""
    return rng(seed, *shape).integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("kwargs", [
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "ceil_mode": True},
    {"kernel_size": 2, "stride": 1, "dilation": (2, 3)},
    {"kernel_size": 2, "stride": 4},
], ids=str)
def test_reference_gradient(kwargs):
    x = normal((2, 2, 6, 7))
    with backend.using("reference"):
        y, indices = max_pool2d_forward(x, **kwargs)
        dy = normal(y.shape, seed=1)
        dx = max_pool2d_backward(dy, indices, x.shape, **kwargs)
        numeric = numeric_gradient(lambda v: max_pool2d_forward(v, **kwargs)[0], x, dy)
    assert_close(dx, numeric, 1e-7)


@given(poolings(), dtypes, st.integers(0, 99))
@settings(max_examples=80)
def test_cpu_as_reference(case, dtype, seed):
    shape, kwargs = case
    x = integers(shape, dtype, seed)
    (y, indices), (expected, winners) = both(max_pool2d_forward, x, **kwargs)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, winners)
    dx, expected = both(max_pool2d_backward, integers(y.shape, dtype, seed + 1), indices, shape, **kwargs)
    np.testing.assert_array_equal(dx, expected)
    assert (y.dtype, indices.dtype, dx.dtype) == (dtype, np.int64, dtype)


@pytest.mark.parametrize("shape, stride", [((5, 16, 31, 33), 2), ((3, 7, 61, 67), 2), ((2, 33, 29, 31), 1),
                                           ((1, 40, 41, 37), 1)])
def test_cpu_as_reference_on_many_threads(shape, stride):
    x = normal(shape, np.float32)
    (y, indices), (expected, winners) = both(max_pool2d_forward, x, 2, stride)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, winners)
    dx, expected = both(max_pool2d_backward, normal(y.shape, np.float32, 1), indices, shape, 2, stride)
    np.testing.assert_array_equal(dx, expected)


@needs_torch
@given(poolings(), dtypes)
@settings(max_examples=40)
def test_as_torch(case, dtype):
    import torch

    shape, kwargs = case
    x = normal(shape, dtype)
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    expected, winners = torch.nn.functional.max_pool2d(t, return_indices=True, **kwargs)
    y, indices = max_pool2d_forward(x, **kwargs)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(indices, winners.numpy())
    dy = integers(y.shape, dtype)
    expected.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(max_pool2d_backward(dy, indices, shape, **kwargs), t.grad.numpy())


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_ties_nan_and_padding(name):
    nan, inf = np.nan, np.inf
    x = np.array([[5, 5, nan, 9], [5, 5, 9, nan], [-1, -2, -inf, -inf], [-3, -1, -inf, -inf]], np.float32)
    with backend.using(name):
        y, indices = max_pool2d_forward(x[None, None], 2)
        np.testing.assert_array_equal(y[0, 0], [[5, nan], [-1, -inf]])
        np.testing.assert_array_equal(indices[0, 0], [[0, 2], [8, 10]])
        y, indices = max_pool2d_forward(np.full((1, 1, 3, 3), -inf), 3, 1, 1)
        np.testing.assert_array_equal(indices[0, 0], [[0, 0, 1], [0, 0, 1], [3, 3, 4]])
        many = np.full((1, 17, 5, 5), nan, np.float32)
        assert (max_pool2d_forward(many, 5)[1] == 0).all()


def test_memory_orders():
    x = normal((2, 3, 7, 8), np.float32)
    kwargs = {"kernel_size": 3, "stride": 2, "padding": 1}
    expected, winners = max_pool2d_forward(x, **kwargs)
    dy = normal(expected.shape, np.float32, 1)
    gradient = max_pool2d_backward(dy, winners, x.shape, **kwargs)
    for name, v in memory_orders(x):
        before = v.copy()
        y, indices = max_pool2d_forward(v, **kwargs)
        np.testing.assert_array_equal(y, expected, err_msg=name)
        np.testing.assert_array_equal(indices, winners, err_msg=name)
        np.testing.assert_array_equal(v, before, err_msg=name)
    for (name, v), (_, i) in zip(memory_orders(dy), memory_orders(winners)):
        np.testing.assert_array_equal(max_pool2d_backward(v, i, x.shape, **kwargs), gradient, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.max_pool import max_pool2d_backward, max_pool2d_forward
def run():
    for shape, k, s in [((3, 33, 40, 41), 2, 2), ((3, 33, 40, 41), 3, 1), ((1, 33, 40, 41), 3, 2),
                        ((7, 3, 50, 41), 2, 2)]:
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        y, i = max_pool2d_forward(x, k, s)
        yield from (y, i, max_pool2d_backward(y, i, shape, k, s))
""")


def test_layer():
    x = normal((4, 3, 8, 8), np.float32)
    layer = nn.MaxPool2d(2, return_indices=True)
    y, indices = layer(x)
    expected, winners = max_pool2d_forward(x, 2)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, winners)
    plain = nn.MaxPool2d((2, 2))
    mine = plain(x)
    np.testing.assert_array_equal(mine, expected)
    dy = normal(y.shape, np.float32, 1)
    dx = plain.backward(np.ascontiguousarray(dy))
    np.testing.assert_array_equal(dx, max_pool2d_backward(dy, winners, x.shape, 2))
    assert plain.backward(dy, input_gradient=False) is None
    plain(-x)
    np.testing.assert_array_equal(mine, expected)  # what a call returned is the caller's
    assert plain.backward(dy) is dx


def test_empty_batch():
    y, indices = max_pool2d_forward(np.zeros((0, 3, 8, 8), np.float32), 2)
    assert y.shape == indices.shape == (0, 3, 4, 4)
    assert max_pool2d_backward(y, indices, (0, 3, 8, 8), 2).shape == (0, 3, 8, 8)
    layer = nn.MaxPool2d(2)
    assert layer(np.zeros((0, 3, 8, 8), np.float32)).shape == (0, 3, 4, 4)
    assert layer.backward(y).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("args, message", [
    (((1, 1, 4, 4), 0), "kernel_size is 0; expected an integer of at least 1"),
    (((1, 1, 4, 4), 2, 0), "stride is 0"),
    (((1, 1, 4, 4), 2, 2, 2), r"padding is \(2, 2\); expected at most half of kernel_size"),
    (((1, 1, 4, 4), 2, 2, 0, 0), "dilation is 0"),
    (((1, 1, 4, 4), 5), "x has height 4, padded to 4; expected at least the kernel's reach of 5"),
    (((1, 1, 4, 4), (1, 2, 3)), "kernel_size is .*; expected an integer or a pair"),
    (((1, 1, 1, 9), 2, 1, 1, 2), "padding is 1 and dilation 2 on height 1: a window of 2 holds no element"),
    (((1, 4, 4), 2), r"x has shape \(1, 4, 4\); expected \(N, C, H, W\)"),
])
def test_bad_sizes(args, message):
    shape, *rest = args
    with pytest.raises(ValueError, match=message):
        max_pool2d_forward(np.zeros(shape, np.float32), *rest)
    with pytest.raises(ValueError, match=message):
        nn.MaxPool2d(*rest)(np.zeros(shape, np.float32))


def test_bad_arrays():
    x = normal((1, 2, 4, 4), np.float32)
    y, indices = max_pool2d_forward(x, 2)
    with pytest.raises(ValueError, match="x has dtype int64; expected float32 or float64"):
        max_pool2d_forward(np.zeros((1, 1, 4, 4), int), 2)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 2, 2\); expected \(1, 2, 3, 3\)"):
        max_pool2d_backward(y, indices, x.shape, 2, 1)
    with pytest.raises(ValueError, match="indices are float32; expected the int64 array"):
        max_pool2d_backward(y, y, x.shape, 2)
    with pytest.raises(ValueError, match=r"indices has shape \(1, 2, 2, 1\); expected \(1, 2, 2, 2\)"):
        max_pool2d_backward(y, indices[..., :1], x.shape, 2)
    for wrong in (-1, 16, 2**32, 2, 8):  # outside the plane, or of another window than the first
        bad = indices.copy()
        bad[0, 1, 0, 0] = wrong
        with pytest.raises(ValueError, match=r"not a position h \* 4 \+ w of its own window"):
            max_pool2d_backward(y, bad, x.shape, 2)
    layer = nn.MaxPool2d(2)
    layer(x)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 4, 4\); expected \(1, 2, 2, 2\)"):
        layer.backward(x)
    with pytest.raises(ValueError, match="dy and y have different dtypes"):
        layer.backward(y.astype(np.float64))
    with pytest.raises(TypeError, match="size"):
        nn.MaxPool2d(2, size=3)
