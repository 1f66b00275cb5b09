"""Dropout: the mask's statistics, its independence of threads and memory, and the layer's two modes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_same_bits, dtypes, memory_orders, normal, numeric_gradient

from nbprop import backend, nn
from nbprop.nn import init
from nbprop.ops.dropout import dropout_backward, dropout_forward


def mask(n, p, seed=0, step=0):
    return dropout_forward(np.ones(n, np.float32), p, seed, step) != 0


@given(st.integers(0, 20000), st.floats(0, 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), dtypes)
@settings(max_examples=60)
def test_cpu_as_reference(n, p, seed, step, dtype):
    x = normal((n,), dtype)
    with backend.using("reference"):
        y, dx = dropout_forward(x, p, seed, step), dropout_backward(x, p, seed, step)
    np.testing.assert_array_equal(dropout_forward(x, p, seed, step), y)
    np.testing.assert_array_equal(dropout_backward(x, p, seed, step), dx)
    assert y.dtype == dtype


def test_both_types_and_large_arrays_have_one_mask():
    x = normal((100_003,), np.float64)
    y = dropout_forward(x, 0.3, 7, 1)
    with backend.using("reference"):
        np.testing.assert_array_equal(dropout_forward(x, 0.3, 7, 1), y)
    np.testing.assert_array_equal(dropout_forward(x.astype(np.float32), 0.3, 7, 1) != 0, y != 0)


def test_reference_gradient():
    x, dy = normal((3, 2, 4, 5)), normal((3, 2, 4, 5), seed=1)
    with backend.using("reference"):
        numeric = numeric_gradient(lambda v: dropout_forward(v, 0.4, 3, 2), x, dy)
        # C-ordered v is brought to channels-last first, so the mask is that of x.
        np.testing.assert_allclose(dropout_backward(dy, 0.4, 3, 2), numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_the_share_that_is_dropped(p):
    n = 1 << 20
    deviation = np.sqrt(p * (1 - p))
    kept = mask(n, p)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation / np.sqrt(n)
    # Per position in a block, and per block: no position is favoured.
    table = kept.reshape(-1, 4096)
    assert np.abs(table.mean(0) - (1 - p)).max() < 7 * deviation / np.sqrt(table.shape[0])
    assert np.abs(table.mean(1) - (1 - p)).max() < 6 * deviation / np.sqrt(4096)


def test_neighbours_steps_and_seeds_are_independent():
    n = 1 << 20
    first = mask(n, 0.5)
    others = [first[:-lag] ^ first[lag:] for lag in (1, 2, 7, 16, 32, 4096)]
    step, seed = mask(n, 0.5, 0, 1), mask(n, 0.5, 1, 0)
    others += [first ^ step, first ^ seed, seed ^ step]
    for different in others:
        assert abs(different.mean() - 0.5) < 5 * 0.5 / np.sqrt(different.size)


def test_values():
    x = normal((4096,), np.float32)
    y = dropout_forward(x, 0.25, 5)
    kept = mask(4096, 0.25, 5)
    np.testing.assert_array_equal(y, np.where(kept, x * np.float32(1 / 0.75), 0))
    np.testing.assert_array_equal(dropout_forward(x, 0.0, 5), x)
    np.testing.assert_array_equal(dropout_forward(x, 1.0, 5), np.zeros(4096))
    assert np.isnan(dropout_forward(np.full(4096, np.nan, np.float32), 0.5, 5)).all()  # NaN is never hidden


def test_memory_orders():
    x = normal((2, 3, 4, 5), np.float32)
    expected = dropout_forward(x, 0.5, 1)
    for name, v in memory_orders(x):
        np.testing.assert_array_equal(dropout_forward(v, 0.5, 1), expected, err_msg=name)
        np.testing.assert_array_equal(v, x, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.dropout import dropout_forward
def run():
    yield dropout_forward(np.ones(100_001, np.float32), 0.5, 3, 4)
""")


@pytest.mark.parametrize("shape", [(64, 32), (2, 3, 8, 8)])
def test_layer(shape):
    init.manual_seed(1)
    layer, other = nn.Dropout(0.5), nn.Dropout(0.5)
    init.manual_seed(1)
    again = nn.Dropout(0.5)
    x = np.abs(normal(shape, np.float32)) + 1
    y = layer(x)
    np.testing.assert_array_equal(again(x), y)
    assert not np.array_equal(other(x) != 0, y != 0)
    np.testing.assert_array_equal(np.where(y != 0, 2 * x, 0), y)
    dx = layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(dx, np.where(y != 0, np.float32(2), 0))
    assert layer.backward(x, input_gradient=False) is None
    assert not np.array_equal(layer(x) != 0, y != 0), "each step has a mask of its own"


def test_layer_passes_through_when_evaluating():
    x = normal((5, 7), np.float32)
    layer = nn.Dropout(0.5).eval()
    assert layer.forward(x) is x
    assert layer.backward(x) is x
    np.testing.assert_array_equal(layer(x), x)
    assert layer(x) is not x
    assert nn.Dropout(0).forward(x) is x


def test_evaluating_between_passes_does_not_change_the_masks():
    x = np.ones((8, 8), np.float32)
    init.manual_seed(2)
    plain = nn.Dropout()
    init.manual_seed(2)
    mixed = nn.Dropout()
    for _ in range(3):
        expected = plain(x)
        mixed.eval()(x)
        np.testing.assert_array_equal(mixed.train()(x), expected)


def test_empty_batch():
    layer = nn.Dropout()
    y = layer(np.zeros((0, 3, 8, 8), np.float32))
    assert y.shape == layer.backward(y).shape == (0, 3, 8, 8)


def test_bad_input():
    x = np.zeros((2, 2), np.float32)
    for p in (-0.1, 1.5, np.nan, "half", None):
        with pytest.raises(ValueError, match=r"p is .*; expected a probability from 0 to 1"):
            nn.Dropout(p)
    with pytest.raises(ValueError, match="inplace is True; expected False"):
        nn.Dropout(0.5, inplace=True)
    with pytest.raises(ValueError, match="x has dtype uint8"):
        nn.Dropout()(np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="seed is -1; expected an integer of at least 0"):
        dropout_forward(x, 0.5, -1)
    with pytest.raises(ValueError, match="expected both below 2"):
        dropout_backward(x, 0.5, 0, 2**63)
    layer = nn.Dropout()
    layer(x)
    with pytest.raises(ValueError, match=r"dy has shape \(3, 2\); expected \(2, 2\)"):
        layer.backward(np.zeros((3, 2), np.float32))
