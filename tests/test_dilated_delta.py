"""Dilated delta: a strided convolution's gradients, as seed 003 writes them, are the tuned kernels'."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, assert_same_bits, both, dtypes, memory_orders, normal

from nbprop import adjoint_check
from nbprop.ops.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from nbprop.ops.dilated_delta import (
    dilated_delta_backward,
    dilated_delta_forward,
    strided_backward_input,
    strided_backward_weight,
)


@st.composite
def convolutions(draw):
    """Shapes of x and w, and arguments that fit; often with rows that no window reaches."""
    arguments = {"stride": [], "padding": [], "dilation": []}
    kernel, size = [], []
    for _ in range(2):
        k, d, p = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 4))
        for name, value in zip(arguments, (draw(st.integers(1, 5)), p, d)):
            arguments[name].append(value)
        kernel.append(k)
        size.append(max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 8)))
    N, C, O = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return (N, C, *size), (O, C, *kernel), {name: tuple(values) for name, values in arguments.items()}


@given(convolutions(), dtypes)
@settings(max_examples=80)
def test_gradients_of_a_strided_convolution(case, dtype):
    x_shape, w_shape, kwargs = case
    x, w = normal(x_shape, dtype), normal(w_shape, dtype, 1)
    dy = normal(conv2d_forward(x, w, **kwargs).shape, dtype, 2)
    relative = 2e-6 if dtype == np.float32 else 1e-13
    dx = conv2d_backward_input(dy, w, x_shape, **kwargs)
    assert_close(strided_backward_input(dy, w, x_shape, **kwargs), dx, relative)
    dw, _ = conv2d_backward_weight(dy, x, w_shape, **kwargs)
    assert_close(strided_backward_weight(dy, x, w_shape, **kwargs), dw, relative)


@given(convolutions(), st.booleans(), dtypes)
@settings(max_examples=60)
def test_cpu_as_reference(case, border, dtype):
    (N, _, *size), (O, _, *kernel), kwargs = case
    arguments = tuple(size), tuple(kernel)
    windows = conv2d_forward(normal((1, 1, *size)), normal((1, 1, *kernel)), **kwargs).shape[2:]
    dy = normal((N, O, *windows), dtype)
    kwargs["border"] = border
    delta, expected = both(dilated_delta_forward, dy, *arguments, **kwargs)
    np.testing.assert_array_equal(delta, expected)
    ddy, expected = both(dilated_delta_backward, normal(delta.shape, dtype, 1), *arguments, **kwargs)
    np.testing.assert_array_equal(ddy, expected)
    np.testing.assert_array_equal(dilated_delta_backward(delta, *arguments, **kwargs), dy)
    assert delta.dtype == ddy.dtype == dtype


def test_written_out():
    """Kernel 2, stride 2, five rows, the last in no window: a remainder of zeros follows delta."""
    dy = np.array([[[[1.0, 2], [3, 4]]]])
    inserted = dilated_delta_forward(dy, 5, 2, stride=2, border=False)[0, 0]
    np.testing.assert_array_equal(inserted, [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    padded = dilated_delta_forward(dy, 5, 2, stride=2)[0, 0]
    np.testing.assert_array_equal(padded, np.pad(inserted, 1))
    dx = strided_backward_input(dy, np.ones((1, 1, 2, 2)), (1, 1, 5, 5), stride=2)[0, 0]
    np.testing.assert_array_equal(dx, np.pad(np.kron(dy[0, 0], np.ones((2, 2))), (0, 1)))


@pytest.mark.parametrize("shape", [(4, 3, 56, 57), (2, 33, 20, 21)])
def test_adjoint_at_full_size(shape):
    geometry = {"output_size": (2 * shape[2], 3 * shape[3]), "kernel_size": 3, "stride": (2, 3), "padding": 1}
    delta = dilated_delta_forward(normal(shape), **geometry)
    adjoint_check(lambda d: dilated_delta_forward(d, **geometry),
                  lambda d: dilated_delta_backward(d, **geometry), normal(shape), normal(delta.shape, seed=1))


def test_memory_orders():
    dy, x = normal((2, 3, 3, 3), np.float32), normal((2, 4, 6, 7), np.float32)
    w = normal((3, 4, 2, 3), np.float32)
    delta = dilated_delta_forward(dy, (6, 7), (2, 3), stride=2)
    dx = strided_backward_input(dy, w, x.shape, stride=2)
    dw = strided_backward_weight(dy, x, w.shape, stride=2)
    for (name, d), (_, k), (_, v) in zip(memory_orders(dy), memory_orders(w), memory_orders(x)):
        before = d.copy()
        np.testing.assert_array_equal(dilated_delta_forward(d, (6, 7), (2, 3), stride=2), delta, err_msg=name)
        np.testing.assert_array_equal(strided_backward_input(d, k, x.shape, stride=2), dx, err_msg=name)
        np.testing.assert_array_equal(strided_backward_weight(d, v, w.shape, stride=2), dw, err_msg=name)
        np.testing.assert_array_equal(d, before, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.dilated_delta import dilated_delta_backward, dilated_delta_forward
def run():
    dy = np.random.default_rng(0).standard_normal((3, 17, 30, 31), np.float32)
    delta = dilated_delta_forward(dy, (60, 62), 2, stride=2)
    yield from (delta, dilated_delta_backward(delta, (60, 62), 2, stride=2))
""")


def test_empty_batch():
    dy, w = np.zeros((0, 3, 2, 2), np.float32), np.zeros((3, 4, 2, 2), np.float32)
    assert dilated_delta_forward(dy, 4, 2, stride=2).shape == (0, 3, 5, 5)
    assert dilated_delta_backward(np.zeros((0, 3, 5, 5), np.float32), 4, 2, stride=2).shape == dy.shape
    assert strided_backward_input(dy, w, (0, 4, 4, 4), stride=2).shape == (0, 4, 4, 4)
    assert not strided_backward_weight(dy, np.zeros((0, 4, 4, 4), np.float32), w.shape, stride=2).any()


def test_bad_input():
    dy, w = np.zeros((1, 3, 2, 2), np.float32), np.zeros((3, 4, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 3, 2, 2\); expected \(1, 3, 3, 3\)"):
        dilated_delta_forward(dy, 4, 2)
    with pytest.raises(ValueError, match="stride is 0; expected an integer of at least 1"):
        dilated_delta_forward(dy, 4, 2, stride=0)
    with pytest.raises(ValueError, match=r"ddelta has shape \(1, 3, 2, 2\); expected \(1, 3, 5, 5\)"):
        dilated_delta_backward(dy, 4, 2, stride=2)
    with pytest.raises(ValueError, match="dy and w have different dtypes"):
        strided_backward_input(dy, w.astype(np.float64), (1, 4, 4, 4), stride=2)
    with pytest.raises(ValueError, match="x has 5 channels"):
        strided_backward_weight(dy, np.zeros((1, 5, 4, 4), np.float32), w.shape, stride=2)
