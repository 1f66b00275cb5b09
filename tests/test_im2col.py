"""im2col and col2im: fast twin against loops, torch, each other's adjoint; convolution as a product."""

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

from nbprop import adjoint_check, backend, nn
from nbprop.ops.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from nbprop.ops.im2col import col2im, im2col


@st.composite
def windows(draw):
    """An image shape and the arguments of windows that fit it."""
    arguments = {name: [] for name in ("kernel_size", "dilation", "padding", "stride")}
    size = []
    for _ in range(2):
        k, d, p = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 3))
        for name, value in zip(arguments, (k, d, p, draw(st.integers(1, 5)))):
            arguments[name].append(value)
        size.append(max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 9)))
    shape = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7, 16, 17, 33])), *size
    return shape, {name: tuple(values) for name, values in arguments.items()}


@pytest.mark.parametrize("kwargs", [
    {"kernel_size": 2}, {"kernel_size": (3, 2), "padding": (1, 2), "stride": (2, 1)},
    {"kernel_size": 2, "dilation": (2, 3), "stride": 3, "padding": 1},
], ids=str)  # fmt: skip
def test_reference_gradient(kwargs):
    x = normal((2, 2, 6, 5))
    with backend.using("reference"):
        columns = im2col(x, **kwargs)
        dy = normal(columns.shape, seed=1)
        numeric = numeric_gradient(lambda v: im2col(v, **kwargs), x, dy)
        assert_close(col2im(dy, (6, 5), **kwargs), numeric, 1e-7)
        numeric = numeric_gradient(lambda v: col2im(v, (6, 5), **kwargs), columns, x)
        assert_close(columns, numeric, 1e-7)


@given(windows(), dtypes)
@settings(max_examples=60)
def test_cpu_as_reference(case, dtype):
    shape, kwargs = case
    columns, expected = both(im2col, normal(shape, dtype), **kwargs)
    np.testing.assert_array_equal(columns, expected)
    x, expected = both(col2im, normal(columns.shape, dtype, 1), shape[2:], **kwargs)
    assert_close(x, expected, TOLERANCE[np.dtype(dtype)])
    assert columns.dtype == x.dtype == dtype


@needs_torch
@given(windows(), dtypes)
@settings(max_examples=60)
def test_as_torch(case, dtype):
    import torch

    shape, kwargs = case
    x = normal(shape, dtype)
    expected = torch.nn.functional.unfold(torch.from_numpy(np.ascontiguousarray(x)), **kwargs)
    columns = im2col(x, **kwargs)
    np.testing.assert_array_equal(columns, expected.numpy())
    dy = normal(columns.shape, dtype, 1)
    expected = torch.nn.functional.fold(torch.from_numpy(dy), shape[2:], **kwargs)
    assert_close(col2im(dy, shape[2:], **kwargs), expected.numpy(), TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("shape", [(4, 3, 112, 112), (2, 33, 41, 37)])
def test_adjoint_at_full_size(shape):
    kwargs = {"kernel_size": (5, 3), "dilation": (1, 2), "padding": (2, 3), "stride": (2, 1)}
    x = normal(shape)
    dy = normal(im2col(x, **kwargs).shape, seed=1)
    adjoint_check(lambda v: im2col(v, **kwargs), lambda d: col2im(d, shape[2:], **kwargs), x, dy)


@given(windows(), st.sampled_from([1, 3, 8]))
@settings(max_examples=20)
def test_convolution_is_a_matrix_product(case, outputs):
    """Seed 001: y = W im2col(x); dx = col2im(W^T dy); dW = sum of dy im2col(x)^T."""
    shape, kwargs = case
    sizes = {name: kwargs[name] for name in ("stride", "padding", "dilation")}
    x, w = normal(shape), normal((outputs, shape[1], *kwargs["kernel_size"]), seed=1)
    y = conv2d_forward(x, w, **sizes)
    dy = normal(y.shape, seed=2)
    matrix, columns = w.reshape(outputs, -1), im2col(x, **kwargs)
    rows = dy.reshape(len(x), outputs, -1)
    assert_close((matrix @ columns).reshape(y.shape), y, 1e-12)
    dx = conv2d_backward_input(dy, w, shape, **sizes)
    assert_close(col2im(matrix.T @ rows, shape[2:], **kwargs), dx, 1e-12)
    dw, _ = conv2d_backward_weight(dy, x, w.shape, **sizes)
    assert_close((rows @ columns.transpose(0, 2, 1)).sum(0).reshape(w.shape), dw, 1e-12)


def test_memory_orders():
    x = normal((2, 3, 5, 6), np.float32)
    kwargs = {"kernel_size": 3, "padding": 1, "stride": 2}
    columns = im2col(x, **kwargs)
    image = col2im(columns, (5, 6), **kwargs)
    for name, v in memory_orders(x):
        before = v.copy()
        np.testing.assert_array_equal(im2col(v, **kwargs), columns, err_msg=name)
        np.testing.assert_array_equal(v, before, err_msg=name)
    for name, v in memory_orders(columns):
        np.testing.assert_array_equal(col2im(v, (5, 6), **kwargs), image, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.im2col import col2im, im2col
def run():
    x = np.random.default_rng(0).standard_normal((3, 17, 41, 37), np.float32)
    columns = im2col(x, 3, padding=1, stride=2)
    yield from (columns, col2im(columns, (41, 37), 3, padding=1, stride=2))
""")


def test_layers():
    x = normal((2, 3, 6, 5), np.float32)
    unfold, fold = nn.Unfold(3, padding=1), nn.Fold((6, 5), 3, padding=1)
    columns = unfold(x)
    expected = im2col(x, 3, padding=1)
    np.testing.assert_array_equal(columns, expected)
    image = fold(columns)
    np.testing.assert_array_equal(image, col2im(columns, (6, 5), 3, padding=1))
    dx = unfold.backward(columns)
    np.testing.assert_array_equal(dx, image)
    dcolumns = fold.backward(x)
    np.testing.assert_array_equal(dcolumns, columns)
    assert unfold.backward(columns, input_gradient=False) is fold.backward(x, input_gradient=False) is None
    unfold(x + 1)
    np.testing.assert_array_equal(columns, expected)  # what a call returned is the caller's
    assert unfold.backward(columns) is dx
    assert fold.backward(x) is dcolumns


def test_empty_batch_and_nan():
    empty = np.zeros((0, 3, 5, 5), np.float32)
    assert im2col(empty, 3).shape == (0, 27, 9)
    assert col2im(np.zeros((0, 27, 9), np.float32), 5, 3).shape == empty.shape
    assert np.isnan(im2col(np.full((1, 2, 3, 3), np.nan), 2)).all()


@pytest.mark.parametrize("kwargs, message", [
    ({"kernel_size": 0}, "kernel_size is 0; expected an integer of at least 1"),
    ({"kernel_size": 2, "stride": 0}, "stride is 0"),
    ({"kernel_size": 2, "padding": -1}, "padding is -1"),
    ({"kernel_size": 6}, "x has height 4, padded to 4; expected at least the kernel's reach of 6"),
])
def test_bad_sizes(kwargs, message):
    with pytest.raises(ValueError, match=message):
        im2col(np.zeros((1, 2, 4, 5), np.float32), **kwargs)
    with pytest.raises(ValueError, match=message):
        nn.Unfold(**kwargs)(np.zeros((1, 2, 4, 5), np.float32))


def test_bad_arrays():
    with pytest.raises(ValueError, match="x has dtype int64; expected float32 or float64"):
        im2col(np.zeros((1, 1, 4, 4), int), 2)
    with pytest.raises(ValueError, match=r"columns have 7 rows .*; expected a multiple of 4"):
        col2im(np.zeros((1, 7, 9)), 4, 2)
    with pytest.raises(ValueError, match=r"columns are 8 per image .*; expected 9, the 3 x 3 windows"):
        nn.Fold(4, 2)(np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match=r"columns has shape .*; expected 3 axes"):
        col2im(np.zeros((8, 9)), 4, 2)
