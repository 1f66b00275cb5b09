"""Unpooling: the written form against central differences, the fast twins against it, pooling and torch."""

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
from nbprop.ops.avg_pool import avg_pool2d_backward, avg_pool2d_forward
from nbprop.ops.avg_unpool import avg_unpool2d_backward, avg_unpool2d_forward
from nbprop.ops.max_pool import max_pool2d_forward
from nbprop.ops.max_unpool import max_unpool2d_backward, max_unpool2d_forward

MODES = ["copy", "adjoint"]


@st.composite
def unpoolings(draw):
    """The shape of x, and arguments that fit it."""
    kernel, stride, padding, size, output = [], [], [], [], []
    for _ in range(2):
        k, s, n = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 7))
        p = draw(st.integers(0, k // 2))
        p = p if (n - 1) * s - 2 * p + k > 0 else 0
        least = (n - 1) * s - 2 * p + k
        kernel.append(k)
        stride.append(s)
        padding.append(p)
        size.append(n)
        output.append(max(1, least + draw(st.integers(1 - s, s - 1))))
    kwargs = {"kernel_size": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding)}
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7, 16, 17, 33])), *size)
    return shape, kwargs, tuple(output)


def positions(shape, plane, seed=0, dtype=np.int64):
    """Any positions, with duplicates."""
    return rng(seed, *shape).integers(0, plane[0] * plane[1], shape).astype(dtype)


@pytest.mark.parametrize("kwargs", [{"kernel_size": 2}, {"kernel_size": (3, 2), "stride": (2, 1)}], ids=str)
def test_reference_gradient_of_max_unpooling(kwargs):
    x = normal((2, 2, 3, 4))
    y, _ = max_pool2d_forward(np.zeros((2, 2, 3, 4)), 1)
    plane = max_unpool2d_forward(y, np.zeros(x.shape, int), **kwargs).shape
    indices = positions(x.shape, plane[2:])
    assert any(np.unique(i).size < i.size for i in indices.reshape(4, -1))
    dy = normal(plane, seed=1)
    with backend.using("reference"):
        dx = max_unpool2d_backward(dy, indices, **kwargs)
        numeric = numeric_gradient(lambda v: max_unpool2d_forward(v, indices, **kwargs), x, dy)
    assert_close(dx, numeric, 1e-7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kwargs", [{"kernel_size": 2}, {"kernel_size": 3, "stride": (2, 1), "padding": 1},
                                    {"kernel_size": 1, "stride": 3}], ids=str)  # fmt: skip
def test_reference_gradient_of_average_unpooling(kwargs, mode):
    x = normal((2, 2, 3, 4))
    with backend.using("reference"):
        dy = normal(avg_unpool2d_forward(x, mode=mode, **kwargs).shape, seed=1)
        dx = avg_unpool2d_backward(dy, x.shape, mode=mode, **kwargs)
        numeric = numeric_gradient(lambda v: avg_unpool2d_forward(v, mode=mode, **kwargs), x, dy)
    assert_close(dx, numeric, 1e-7)


@given(unpoolings(), dtypes, st.sampled_from([np.int32, np.int64]))
@settings(max_examples=50)
def test_max_unpooling_cpu_as_reference(case, dtype, index_type):
    shape, kwargs, output = case
    indices = positions(shape, output, dtype=index_type)
    y, expected = both(max_unpool2d_forward, normal(shape, dtype), indices, **kwargs, output_size=output)
    np.testing.assert_array_equal(y, expected)
    dx, expected = both(max_unpool2d_backward, normal(y.shape, dtype, 1), indices, **kwargs)
    np.testing.assert_array_equal(dx, expected)
    assert (y.dtype, dx.dtype) == (dtype, dtype)


@given(unpoolings(), dtypes, st.sampled_from(MODES))
@settings(max_examples=50)
def test_average_unpooling_cpu_as_reference(case, dtype, mode):
    shape, kwargs, output = case
    tolerance = TOLERANCE[np.dtype(dtype)]
    y, expected = both(avg_unpool2d_forward, normal(shape, dtype), **kwargs, output_size=output, mode=mode)
    assert_close(y, expected, tolerance)
    dx, expected = both(avg_unpool2d_backward, normal(y.shape, dtype, 1), shape, **kwargs, mode=mode)
    assert_close(dx, expected, tolerance)


@pytest.mark.parametrize("shape", [(3, 33, 20, 21), (1, 40, 20, 21)])
def test_cpu_as_reference_on_many_threads(shape):
    x, dy = normal(shape, np.float32), normal((*shape[:2], 41, 43), np.float32, 1)
    indices = positions(shape, (41, 43))
    y, expected = both(max_unpool2d_forward, x, indices, 3, 2)
    np.testing.assert_array_equal(y, expected)
    # The reference looks for duplicates in quadratic time: a part of the channels says it.
    dx = max_unpool2d_backward(dy, indices, 3, 2)
    with backend.using("reference"):
        np.testing.assert_array_equal(dx[:, -3:], max_unpool2d_backward(dy[:, -3:], indices[:, -3:], 3, 2))
    for mode in MODES:
        y, expected = both(avg_unpool2d_forward, x, 3, 2, mode=mode)
        assert_close(y, expected, 1e-6)
        dx, expected = both(avg_unpool2d_backward, dy, shape, 3, 2, mode=mode)
        assert_close(dx, expected, 1e-6)


@needs_torch
@given(unpoolings(), dtypes)
@settings(max_examples=40)
def test_max_unpooling_as_torch(case, dtype):
    import torch

    shape, kwargs, output = case
    # Without duplicates: for them torch's gradient is another (see the docstring).
    if shape[2] * shape[3] > output[0] * output[1]:
        return
    N, C, OH, OW = shape
    indices = np.array([rng(i).permutation(output[0] * output[1])[: OH * OW] for i in range(N * C)])
    indices = indices.reshape(shape)
    x = normal(shape, dtype)
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    i = torch.from_numpy(indices)
    expected = torch.nn.functional.max_unpool2d(t, i, output_size=output, **kwargs)
    np.testing.assert_array_equal(max_unpool2d_forward(x, indices, **kwargs, output_size=output),
                                  expected.detach().numpy())  # fmt: skip
    dy = normal(expected.shape, dtype, 1)
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    np.testing.assert_array_equal(max_unpool2d_backward(dy, indices, **kwargs), t.grad.numpy())


def test_of_duplicates_the_last_stands():
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    indices = np.array([[[[5, 0], [5, 5]]]])
    dy = np.arange(16.0).reshape(1, 1, 4, 4)
    for name in ("cpu", "reference"):
        with backend.using(name):
            y = max_unpool2d_forward(x, indices, 2)
            np.testing.assert_array_equal(y[0, 0, :2], [[2, 0, 0, 0], [0, 4, 0, 0]])
            np.testing.assert_array_equal(max_unpool2d_backward(dy, indices, 2), [[[[0, 0], [0, 5]]]])


def test_undoes_pooling():
    x = normal((2, 3, 8, 6))
    y, indices = max_pool2d_forward(x, 2)
    unpooled = np.abs(max_unpool2d_forward(y, indices, 2))
    np.testing.assert_array_equal(max_pool2d_forward(unpooled, 2)[0], np.abs(y))
    copied = avg_unpool2d_forward(y, 2)
    np.testing.assert_array_equal(copied, y.repeat(2, 2).repeat(2, 3))
    assert_close(avg_pool2d_forward(copied, 2), y, 1e-15)
    ones = avg_unpool2d_forward(np.ones((1, 2, 4, 5)), 3, 2, 1)
    assert_close(ones, np.ones(ones.shape), 1e-15)


@pytest.mark.parametrize("size", [(7, 9), (8, 8)])
def test_adjoint_of_average_pooling(size):
    """Unpooling in adjoint form is the gradient of average pooling, and its gradient average pooling."""
    kwargs = {"kernel_size": 3, "stride": 2, "padding": 1}
    y = avg_pool2d_forward(normal((2, 5, *size)), **kwargs)
    unpooled = avg_unpool2d_forward(y, output_size=size, mode="adjoint", **kwargs)
    assert_close(unpooled, avg_pool2d_backward(y, (2, 5, *size), **kwargs), 1e-14)
    dy = normal(unpooled.shape, seed=1)
    dx = avg_unpool2d_backward(dy, y.shape, mode="adjoint", **kwargs)
    assert_close(dx, avg_pool2d_forward(dy, **kwargs), 1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_adjoints_at_full_size(mode):
    x, dy = normal((8, 64, 28, 28)), normal((8, 64, 57, 57), seed=1)
    indices = positions(x.shape, (57, 57))
    nbprop.adjoint_check(lambda v: max_unpool2d_forward(v, indices, 3, 2),
                         lambda v: max_unpool2d_backward(v, indices, 3, 2), x, dy)  # fmt: skip
    nbprop.adjoint_check(lambda v: avg_unpool2d_forward(v, 3, 2, mode=mode),
                         lambda v: avg_unpool2d_backward(v, x.shape, 3, 2, mode=mode), x, dy)  # fmt: skip


def test_memory_orders():
    x, indices = normal((2, 3, 4, 5), np.float32), positions((2, 3, 4, 5), (8, 10))
    dy = normal((2, 3, 8, 10), np.float32, 1)
    expected = max_unpool2d_forward(x, indices, 2), avg_unpool2d_forward(x, 2)
    gradients = max_unpool2d_backward(dy, indices, 2), avg_unpool2d_backward(dy, x.shape, 2)
    for (name, v), (_, i), (_, d) in zip(memory_orders(x), memory_orders(indices), memory_orders(dy)):
        np.testing.assert_array_equal(max_unpool2d_forward(v, i, 2), expected[0], err_msg=name)
        np.testing.assert_array_equal(avg_unpool2d_forward(v, 2), expected[1], err_msg=name)
        np.testing.assert_array_equal(max_unpool2d_backward(d, i, 2), gradients[0], err_msg=name)
        np.testing.assert_array_equal(avg_unpool2d_backward(d, x.shape, 2), gradients[1], err_msg=name)
        np.testing.assert_array_equal(v, x, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.avg_unpool import avg_unpool2d_backward, avg_unpool2d_forward
from nbprop.ops.max_unpool import max_unpool2d_backward, max_unpool2d_forward
def run():
    rng = np.random.default_rng(0)
    for shape in ((5, 33, 20, 21), (1, 40, 20, 21)):
        x = rng.standard_normal(shape, np.float32)
        i = rng.integers(0, 40 * 42, shape)
        y = max_unpool2d_forward(x, i, 2)
        yield from (y, max_unpool2d_backward(y, i, 2))
        y = avg_unpool2d_forward(x, 3, 2)
        yield from (y, avg_unpool2d_backward(y, shape, 3, 2))
""")


def test_max_unpooling_layer():
    pool, layer = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    x = normal((4, 3, 9, 9), np.float32)
    y, indices = pool(x)
    mine = layer(y, indices, x.shape)
    np.testing.assert_array_equal(mine, max_unpool2d_forward(y, indices, 2, output_size=(9, 9)))
    dy = normal(mine.shape, np.float32, 1)
    dx = layer.backward(np.ascontiguousarray(dy))
    np.testing.assert_array_equal(dx, max_unpool2d_backward(dy, indices, 2))
    assert layer.backward(dy, input_gradient=False) is None
    kept = mine.copy()
    assert layer.forward(-y, indices, (9, 9)) is layer.forward(y + 1, indices, (9, 9))
    np.testing.assert_array_equal(mine, kept)
    assert layer.backward(dy) is dx
    assert layer(y, np.minimum(indices, 63)).shape == (4, 3, 8, 8)


@pytest.mark.parametrize("mode", MODES)
def test_average_unpooling_layer(mode):
    layer, x = nn.AvgUnpool2d(3, 2, 1, mode=mode), normal((4, 3, 5, 6), np.float32)
    y = layer(x)
    np.testing.assert_array_equal(y, avg_unpool2d_forward(x, 3, 2, 1, mode=mode))
    assert layer(x, output_size=(10, 11)).shape == (4, 3, 10, 11)
    dy = normal(y.shape, np.float32, 1)
    assert layer.forward(x) is layer.forward(2 * x)
    dx = layer.backward(np.ascontiguousarray(dy))
    np.testing.assert_array_equal(dx, avg_unpool2d_backward(dy, x.shape, 3, 2, 1, mode))
    assert layer.backward(dy, input_gradient=False) is None
    assert layer.backward(dy) is dx
    nbprop.gradcheck(layer, normal((2, 3, 4, 5)))


def test_empty_batch():
    x = np.zeros((0, 3, 4, 4), np.float32)
    indices = np.zeros(x.shape, np.int64)
    layer = nn.MaxUnpool2d(2)
    assert layer(x, indices).shape == (0, 3, 8, 8)
    assert layer.backward(np.zeros((0, 3, 8, 8), np.float32)).shape == x.shape
    layer = nn.AvgUnpool2d(2)
    assert layer(x).shape == (0, 3, 8, 8)
    assert layer.backward(np.zeros((0, 3, 8, 8), np.float32)).shape == x.shape


def test_bad_input():
    x, indices = normal((1, 2, 3, 3)), positions((1, 2, 3, 3), (6, 6))
    for wrong in (-1, 36, 2**40):
        bad = indices.copy()
        bad[0, 1, 2, 0] = wrong
        message = rf"indices\[0, 1, 2, 0\] is {wrong}; expected 0 to 35"
        with pytest.raises(ValueError, match=message):
            max_unpool2d_forward(x, bad, 2)
        with pytest.raises(ValueError, match=message):
            nn.MaxUnpool2d(2)(x, bad)
        with pytest.raises(ValueError, match=message):
            max_unpool2d_backward(np.zeros((1, 2, 6, 6)), bad, 2)
    with pytest.raises(ValueError, match="indices are float64; expected an int64 array"):
        max_unpool2d_forward(x, x, 2)
    with pytest.raises(ValueError, match="indices are list; expected an int64 array"):
        max_unpool2d_forward(x, indices.tolist(), 2)
    with pytest.raises(ValueError, match=r"indices has shape \(1, 2, 3, 2\); expected \(1, 2, 3, 3\)"):
        max_unpool2d_forward(x, indices[..., :2], 2)
    with pytest.raises(ValueError, match=r"indices has shape \(1, 1, 3, 3\); expected \(N, C, OH, OW\)"):
        max_unpool2d_backward(np.zeros((1, 2, 6, 6)), indices[:, :1], 2)
    with pytest.raises(ValueError, match=r"x_shape is \(1, 1, 3, 3\); expected \(N, C, OH, OW\)"):
        avg_unpool2d_backward(np.zeros((1, 2, 6, 6)), (1, 1, 3, 3), 2)
    with pytest.raises(ValueError, match=r"output_size is \(8, 6\); expected 6 x 6, or less than the stride"):
        max_unpool2d_forward(x, indices, 2, output_size=(8, 6))
    with pytest.raises(ValueError, match=r"output_size is \(0, 0\); expected at least 1 x 1"):
        avg_unpool2d_forward(normal((1, 1, 1, 1)), 2, 2, 1)
    with pytest.raises(ValueError, match='mode is \'max\'; expected "copy" or "adjoint"'):
        avg_unpool2d_forward(x, 2, mode="max")
    with pytest.raises(ValueError, match='mode is None; expected "copy" or "adjoint"'):
        nn.AvgUnpool2d(2, mode=None)
    with pytest.raises(ValueError, match="kernel_size is 0"):
        nn.MaxUnpool2d(0)
    layer = nn.AvgUnpool2d(2)
    layer(x)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 3, 3\); expected \(1, 2, 6, 6\)"):
        layer.backward(x)
