"""True convolution: seed 001's equations 2 and 3, central differences, the fast twin against the loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import TOLERANCE, assert_close, both, dtypes, memory_orders, normal, numeric_gradient

from nbprop import adjoint_check, backend
from nbprop.ops.conv import conv2d_forward
from nbprop.ops.conv_flip import conv2d_flip_backward_input, conv2d_flip_backward_weight, conv2d_flip_forward


def test_equation_2():
    """With full padding: y[i, j] = sum of I(i - m, j - n) K(m, n), I being 0 outside."""
    image, kernel = normal((5, 6)), normal((3, 2), seed=1)
    expected = np.zeros((7, 7))
    for i, j, m, n in np.ndindex(7, 7, 3, 2):
        if 0 <= i - m < 5 and 0 <= j - n < 6:
            expected[i, j] += image[i - m, j - n] * kernel[m, n]
    y, reference = both(conv2d_flip_forward, image[None, None], kernel[None, None], padding=(2, 1))
    assert_close(y[0, 0], expected, 1e-13)
    assert_close(reference[0, 0], expected, 1e-13)
    # Equation 3: correlation with the rotated kernel, or with the kernel itself if it is symmetric.
    image, rotated = image[None, None], kernel[None, None, ::-1, ::-1]
    assert_close(conv2d_forward(image, rotated, padding=(2, 1))[0, 0], expected, 1e-13)
    symmetric = kernel[None, None] + rotated
    assert_close(conv2d_flip_forward(image, symmetric), conv2d_forward(image, symmetric), 1e-13)


@pytest.mark.parametrize("kwargs", [
    {}, {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}, {"groups": 2},
], ids=str)
def test_reference_gradient(kwargs):
    x, b = normal((2, 4, 5, 6)), normal((2,), seed=2)
    w = normal((2, 4 // kwargs.get("groups", 1), 3, 2), seed=1)
    with backend.using("reference"):
        dy = normal(conv2d_flip_forward(x, w, b, **kwargs).shape, seed=3)
        dx = conv2d_flip_backward_input(dy, w, x.shape, **kwargs)
        dw, db = conv2d_flip_backward_weight(dy, x, w.shape, **kwargs)
        for f, at, gradient in [(lambda v: conv2d_flip_forward(v, w, b, **kwargs), x, dx),
                                (lambda v: conv2d_flip_forward(x, v, b, **kwargs), w, dw),
                                (lambda v: conv2d_flip_forward(x, w, v, **kwargs), b, db)]:
            assert_close(gradient, numeric_gradient(f, at, dy), 1e-7)


@given(st.tuples(*[st.integers(1, 3)] * 6), st.sampled_from([1, 2]), dtypes)
@settings(max_examples=20)
def test_cpu_as_reference(sizes, groups, dtype):
    kernel, stride, dilation = sizes[:2], sizes[2:4], sizes[4:]
    kwargs = {"stride": stride, "padding": (1, 2), "dilation": dilation, "groups": groups}
    x, w = normal((2, 6, 9, 8), dtype), normal((4, 6 // groups, *kernel), dtype, 1)
    y, expected = both(conv2d_flip_forward, x, w, **kwargs)
    assert_close(y, expected, TOLERANCE[np.dtype(dtype)])
    dy = normal(y.shape, dtype, 2)
    dx, expected = both(conv2d_flip_backward_input, dy, w, x.shape, **kwargs)
    assert_close(dx, expected, TOLERANCE[np.dtype(dtype)])
    for ours, expected in zip(*both(conv2d_flip_backward_weight, dy, x, w.shape, **kwargs)):
        assert_close(ours, expected, TOLERANCE[np.dtype(dtype)])


def test_adjoint_at_full_size():
    x, w = normal((4, 16, 56, 57)), normal((24, 16, 3, 3), seed=1)
    dy = normal((4, 24, 28, 29), seed=2)
    adjoint_check(lambda v: conv2d_flip_forward(v, w, stride=2, padding=1),
                  lambda d: conv2d_flip_backward_input(d, w, x.shape, stride=2, padding=1), x, dy)


def test_memory_orders():
    x, w = normal((2, 3, 5, 6), np.float32), normal((4, 3, 3, 2), np.float32, 1)
    y = conv2d_flip_forward(x, w)
    for (name, v), (_, k) in zip(memory_orders(x), memory_orders(w)):
        before = k.copy()
        np.testing.assert_array_equal(conv2d_flip_forward(v, k), y, err_msg=name)
        np.testing.assert_array_equal(k, before, err_msg=name)


def test_bad_input():
    x, w = np.zeros((1, 3, 4, 4), np.float32), np.zeros((2, 3, 2, 2), np.float32)
    with pytest.raises(ValueError, match="x and w and b have different dtypes"):
        conv2d_flip_forward(x, w.astype(np.float64))
    with pytest.raises(ValueError, match=r"b has shape \(3,\); expected \(2,\)"):
        conv2d_flip_forward(x, w, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 4, 4\); expected \(1, 2, 3, 3\)"):
        conv2d_flip_backward_input(np.zeros((1, 2, 4, 4), np.float32), w, x.shape)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 4, 4\); expected \(1, 2, 3, 3\)"):
        conv2d_flip_backward_weight(np.zeros((1, 2, 4, 4), np.float32), x, w.shape)
