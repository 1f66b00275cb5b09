"""Softmax, log softmax: textbook loops against central differences, the fast twin against them, and torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    TOLERANCE,
    assert_close,
    assert_same_bits,
    dtypes,
    memory_orders,
    needs_torch,
    normal,
    numeric_gradient,
)

from nbprop import backend
from nbprop.nn.softmax import LogSoftmax, Softmax
from nbprop.ops.exponentials import exponentials
from nbprop.ops.softmax import log_softmax_backward, log_softmax_forward, softmax_backward, softmax_forward

PAIRS = [(softmax_forward, softmax_backward), (log_softmax_forward, log_softmax_backward)]
pairs = pytest.mark.parametrize("forward, backward", PAIRS, ids=["softmax", "log_softmax"])
shapes = st.sampled_from([(7,), (3, 1), (5, 33), (1, 100), (2, 3, 4), (2, 5, 3, 4), (1, 1, 3, 1)])


@pairs
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_reference_gradient(forward, backward, dim):
    x = normal((2, 3, 4, 2))
    dy = normal(x.shape, seed=1)
    with backend.using("reference"):
        dx = backward(forward(x, dim), dy, dim)
        assert_close(dx, numeric_gradient(lambda v: forward(v, dim), x, dy), 1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [5, 13, 77])
def test_sums_do_not_depend_on_addresses(size, dtype):
    memory = np.empty(4 * size + 200, dtype)
    x = memory[:size]
    x[:] = 3 * normal((size,), dtype)
    results = set()
    for start in range(size, 3 * size + 100):
        powers = memory[start : start + size]
        results.add((*exponentials(x, powers), powers.tobytes()))
    assert len(results) == 1


@given(st.sampled_from(PAIRS), shapes, dtypes, st.data())
@settings(max_examples=60)
def test_tuned_is_reference(pair, shape, dtype, data):
    forward, backward = pair
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, dy = 3 * normal(shape, dtype), normal(shape, dtype, seed=1)
    with backend.using("reference"):
        y = forward(x, dim)
        dx = backward(y, dy, dim)
    tolerance = 5 * TOLERANCE[np.dtype(dtype)]
    np.testing.assert_allclose(forward(x, dim), y, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(backward(y, dy, dim), dx, rtol=tolerance, atol=5 * tolerance)


@needs_torch
@pairs
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 5)], ids=str)
def test_as_torch(forward, backward, shape):
    import torch

    for dim in range(-len(shape), len(shape)):
        x, dy = normal(shape), normal(shape, seed=1)
        z = torch.tensor(x, requires_grad=True)
        y = getattr(torch, forward.__name__.removesuffix("_forward"))(z, dim=dim)
        y.backward(torch.tensor(dy))
        assert_close(forward(x, dim), y.detach().numpy(), 1e-13)
        assert_close(backward(forward(x, dim), dy, dim), z.grad.numpy(), 1e-12)


@pairs
def test_memory_orders(forward, backward):
    x, dy = normal((2, 5, 3, 4)), normal((2, 5, 3, 4), seed=1)
    for dim in (1, 2):
        y = forward(x, dim)
        dx = backward(y, dy, dim)
        for (name, a), (_, b) in zip(memory_orders(x), memory_orders(dy)):
            np.testing.assert_array_equal(forward(a, dim), y, err_msg=name)
            np.testing.assert_array_equal(backward(y, b, dim), dx, err_msg=name)
            np.testing.assert_array_equal(a, x)


def test_large_and_nan():
    x = np.array([[1e4, 0, -1e4], [np.nan, 1, 2]])
    np.testing.assert_array_equal(softmax_forward(x)[0], [1, 0, 0])
    np.testing.assert_array_equal(log_softmax_forward(x)[0], [0, -1e4, -2e4])
    assert np.isnan(softmax_forward(x)[1]).all()
    assert np.isnan(log_softmax_forward(x)[1]).all()


def test_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops import softmax as s
x = np.random.default_rng(0).standard_normal((501, 333)).astype(np.float32)
def run():
    for dim in 0, 1:
        yield s.softmax_backward(s.softmax_forward(x, dim), x, dim)
        yield s.log_softmax_backward(s.log_softmax_forward(x, dim), x, dim)
""")


@pytest.mark.parametrize("kind, forward, backward", [(Softmax, *PAIRS[0]), (LogSoftmax, *PAIRS[1])])
@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (2, 3, 4, 5)], ids=str)
def test_layer(kind, forward, backward, shape):
    x, dy = normal(shape), normal(shape, seed=1)
    layer = kind(dim=1)
    y = layer.forward(x)
    np.testing.assert_array_equal(y, forward(x))
    dx = layer.backward(dy)
    np.testing.assert_array_equal(dx, backward(y, dy))
    assert layer.forward(x) is y
    assert layer.backward(dy) is dx
    assert layer.backward(dy, input_gradient=False) is None


@pytest.mark.parametrize("make, message", [
    (lambda: softmax_forward(np.zeros((2, 3)), 2), "dim is 2 and x has 2 axes; expected -2 to 1"),
    (lambda: softmax_forward(np.zeros((2, 3)), -3), "dim is -3; expected an integer of at least -2"),
    (lambda: softmax_forward(np.zeros((2, 3), int)), "x has dtype int64"),
    (lambda: softmax_backward(np.zeros((2, 3)), np.zeros((2, 4))), "dy has shape"),
    (lambda: log_softmax_backward(np.zeros((2, 3)), np.zeros((2, 3), np.float32)), "different dtypes"),
    (lambda: Softmax(None), "dim is None"),
    (lambda: Softmax(2).forward(np.zeros((2, 3))), "dim is 2 and x has 2 axes"),
])  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
