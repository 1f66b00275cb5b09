"""The Gram matrix and the style loss: central differences, the fast twin against plain loops, torch."""

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
from nbprop.ops.gram import gram_backward, gram_forward

SHAPES = st.tuples(st.integers(1, 3), st.sampled_from([1, 3, 7, 16, 33]), st.integers(1, 13),
                   st.integers(1, 13))


@pytest.mark.parametrize("normalize", [False, True])
def test_reference_gradient(normalize):
    x, dy = normal((2, 3, 3, 4)), normal((2, 3, 3), seed=1)
    with backend.using("reference"):
        dx = gram_backward(dy, x, normalize)
        numeric = numeric_gradient(lambda v: gram_forward(v, normalize), x, dy)
    assert_close(dx, numeric, 1e-7)


@given(SHAPES, st.booleans(), dtypes)
@settings(max_examples=40)
def test_cpu_as_reference(shape, normalize, dtype):
    x = normal(shape, dtype)
    y, expected = both(gram_forward, x, normalize)
    assert_close(y, expected, TOLERANCE[np.dtype(dtype)])
    dx, expected = both(gram_backward, normal(y.shape, dtype, 1), x, normalize)
    assert_close(dx, expected, TOLERANCE[np.dtype(dtype)])
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("shape", [(2, 64, 128, 128), (1, 129, 31, 33)])
def test_at_full_size(shape):
    x, dy = normal(shape, np.float32), normal((*shape[:1], shape[1], shape[1]), np.float32, 1)
    rows = np.ascontiguousarray(x).reshape(*shape[:2], -1).astype(np.float64)
    y = gram_forward(x)
    assert_close(y, rows @ rows.transpose(0, 2, 1), 3e-6)
    np.testing.assert_array_equal(y, y.transpose(0, 2, 1))
    symmetric = dy.astype(np.float64) + dy.transpose(0, 2, 1)
    assert_close(gram_backward(dy, x), (symmetric @ rows).reshape(shape), 3e-6)


@needs_torch
@pytest.mark.parametrize("normalize", [False, True])
def test_as_torch(normalize):
    import torch

    x, dy = normal((3, 5, 6, 7)), normal((3, 5, 5), seed=1)
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    rows = t.reshape(3, 5, 42)
    expected = rows @ rows.transpose(1, 2) / (5 * 42 if normalize else 1)
    expected.backward(torch.from_numpy(dy))
    assert_close(gram_forward(x, normalize), expected.detach().numpy(), 1e-13)
    assert_close(gram_backward(dy, x, normalize), t.grad.numpy(), 1e-13)


def test_memory_orders():
    x, dy = normal((2, 3, 5, 6), np.float32), normal((2, 3, 3), np.float32, 1)
    y, dx = gram_forward(x), gram_backward(dy, x)
    for (name, v), (_, d) in zip(memory_orders(x), memory_orders(dy)):
        before = v.copy()
        np.testing.assert_array_equal(gram_forward(v), y, err_msg=name)
        np.testing.assert_array_equal(gram_backward(d, v), dx, err_msg=name)
        np.testing.assert_array_equal(v, before, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.gram import gram_backward, gram_forward
def run():
    x = np.random.default_rng(0).standard_normal((2, 33, 101, 67), np.float32)
    y = gram_forward(x)
    yield from (y, gram_backward(y, x))
""")


def test_layer():
    x = normal((2, 3, 6, 5), np.float32)
    layer = nn.GramMatrix(normalize=True)
    mine = layer(x)
    np.testing.assert_array_equal(mine, gram_forward(x, True))
    dy = normal(mine.shape, np.float32, 1)
    dx = layer.backward(dy)
    np.testing.assert_array_equal(dx, gram_backward(dy, x, True))
    assert layer.backward(dy, input_gradient=False) is None
    with backend.using("reference"):  # the twins need different scratch memory
        assert_close(layer(x), mine, 2e-6)
        assert_close(layer.backward(dy), gram_backward(dy, x, True), 2e-6)
    assert layer.backward(dy) is dx


@pytest.mark.parametrize("images", [1, 3])
def test_style_loss(images):
    x = normal((3, 4, 5, 6))
    target = gram_forward(normal((images, 4, 7, 8), seed=1), normalize=True)  # a style of another size
    loss = nn.StyleLoss()
    value = loss(x, target)
    expected = np.mean([((g - a) ** 2).sum() / 4 for g, a in zip(gram_forward(x, True), list(target) * 3)])
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    dx = loss.backward().copy()
    numeric = numeric_gradient(lambda v: loss(v, target), x, 1.0, 1e-5)
    assert_close(dx, numeric, 1e-7)
    loss(x, target)
    assert_close(loss.backward(0.5), dx / 2, 1e-14)
    assert_close(loss.backward(), dx, 1e-14)
    assert loss(x, gram_forward(x, normalize=True)) == 0


def test_style_loss_is_equation_4_of_gatys():
    """For images of one size: 1 / (4 C^2 M^2) sum (G - A)^2 of the raw matrices, M = H W."""
    x, style = normal((1, 4, 5, 6)), normal((1, 4, 5, 6), seed=1)
    raw = ((gram_forward(x) - gram_forward(style)) ** 2).sum() / (4 * 4**2 * 30**2)
    np.testing.assert_allclose(nn.StyleLoss()(x, gram_forward(style, normalize=True)), raw, rtol=1e-12)


def test_empty_batch_and_nan():
    empty = np.zeros((0, 3, 5, 5), np.float32)
    assert gram_forward(empty).shape == (0, 3, 3)
    assert gram_backward(np.zeros((0, 3, 3), np.float32), empty).shape == empty.shape
    loss = nn.StyleLoss()
    assert np.isnan(loss(empty, np.zeros((1, 3, 3), np.float32)))
    assert loss.backward().shape == empty.shape
    assert np.isnan(gram_forward(np.full((1, 2, 3, 3), np.nan, np.float32))).all()


def test_bad_input():
    x = np.zeros((2, 3, 4, 4), np.float32)
    with pytest.raises(ValueError, match="x has dtype int64; expected float32 or float64"):
        gram_forward(np.zeros((1, 1, 4, 4), int))
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 0, 4\); expected at least one channel"):
        gram_forward(np.zeros((1, 3, 0, 4)))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4, 4\); expected \(2, 3, 3\)"):
        gram_backward(np.zeros((2, 4, 4), np.float32), x)
    with pytest.raises(ValueError, match="dy and x have different dtypes"):
        gram_backward(np.zeros((2, 3, 3)), x)
    with pytest.raises(ValueError, match=r"target has shape \(2, 4, 4\); expected Gram matrices, \(2, 3"):
        nn.StyleLoss()(x, np.zeros((2, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"target has shape \(2, 3, 4, 4\); expected 3 axes"):
        nn.StyleLoss()(x, x)
