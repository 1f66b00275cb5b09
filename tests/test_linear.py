"""The linear layer: plain loops against central differences, the tuned product against them and torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, assert_same_bits, cut, dtypes, memory_orders, needs_torch, normal, numeric_gradient

import nbprop
from nbprop import nn
from nbprop.ops.linear import linear_backward_input as backward_input
from nbprop.ops.linear import linear_backward_weight as backward_weight
from nbprop.ops.linear import linear_forward as forward

features = st.sampled_from([1, 3, 17])  # few, as each tile size is compiled anew


def operands(n, k, o, dtype=np.float64):
    return normal((n, k), dtype, 0), normal((o, k), dtype, 1), normal((o,), dtype, 2)


def passes(x, w, b, dy=None):
    """All that a linear layer computes: y, dx, dw, db."""
    y = forward(x, w, b)
    dy = normal(y.shape, y.dtype, 3) if dy is None else dy
    return y, backward_input(dy, w), *backward_weight(dy, x)


def check(n, k, o, dtype):
    """Hold every number of the tuned passes to a few roundings of the terms it sums."""
    arrays = *operands(n, k, o, dtype), normal((n, o), dtype, 3)
    tuned = passes(*arrays)
    with nbprop.using("reference"):
        expected, terms = passes(*arrays), passes(*map(np.abs, arrays))
    for name, ours, wanted, size in zip(("y", "dx", "dw", "db"), tuned, expected, terms):
        assert ours.dtype == dtype, name
        assert (np.abs(ours - wanted) <= 8 * np.finfo(dtype).eps * size).all(), name


def test_reference_gradient():
    x, w, b = operands(4, 5, 3)
    with nbprop.using("reference"):
        dy = normal((4, 3), seed=3)
        _, dx, dw, db = passes(x, w, b, dy)
        assert_close(dx, numeric_gradient(lambda v: forward(v, w, b), x, dy), 1e-7)
        assert_close(dw, numeric_gradient(lambda v: forward(x, v, b), w, dy), 1e-7)
        assert_close(db, numeric_gradient(lambda v: forward(x, w, v), b, dy), 1e-7)


@settings(max_examples=20)
@given(st.integers(1, 40), features, features, dtypes)
def test_tuned_as_reference(n, k, o, dtype):
    check(n, k, o, dtype)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 300), features, st.sampled_from([1, 1 << 20]),
       st.sampled_from([1, 500, 192 * 1024]), st.sampled_from([1, 1 << 18]), st.sampled_from([1, 2_000_000]))
def test_tuned_as_reference_however_it_is_cut(n, k, o, large, block, panel, serial):
    """Blocks of few rows, slices of the weights, chunks of one row: edges of large arrays."""
    with cut({"dense._BLOCK": block, "dense._LARGE_WEIGHTS": large, "dense._ROWS": 1, "dense._SERIAL": serial,
              "correlate._PANEL": panel, "outer._PIXELS": 1}):
        check(n, k, o, np.float32)


@pytest.mark.parametrize("n, k, o", [(1, 1, 1), (1, 1009, 17), (2, 66, 131), (3, 1009, 17), (61, 67, 131),
                                     (600, 28, 31), (128, 337, 27), (64, 400, 811)])
def test_tuned_as_reference_in_odd_places(n, k, o):
    """One number; several panels, the last one narrow, copied or read in place; a long sum."""
    check(n, k, o, np.float32)


def test_same_bits_for_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.linear import linear_backward_input, linear_backward_weight, linear_forward
def passes(n, k, o):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((o, k)).astype(np.float32)
    y = linear_forward(x, w)
    return y, linear_backward_input(y, w), *linear_backward_weight(y, x)
def run():
    return (*passes(128, 337, 27), *passes(64, 400, 811), *passes(1500, 28, 31), *passes(300, 400, 10),
            *passes(1, 1300, 811), *passes(2, 1300, 811))
""")


def test_memory_order_does_not_matter_and_inputs_are_left_alone():
    arrays = *operands(6, 7, 17, np.float32), normal((6, 17), np.float32, 3)
    expected = passes(*arrays)
    for place, original in enumerate(arrays):
        for name, other in memory_orders(original):
            given_ = [*arrays]
            given_[place] = other
            kept = [a.copy() for a in given_]
            for ours, wanted in zip(passes(*given_), expected):
                np.testing.assert_array_equal(ours, wanted, err_msg=name)
            for a, before in zip(given_, kept):
                np.testing.assert_array_equal(a, before, err_msg=name)


def test_without_a_bias():
    x, w, _ = operands(3, 5, 4)
    np.testing.assert_array_equal(forward(x, w), forward(x, w, np.zeros(4)))


def test_nan_reaches_what_it_meets_and_no_more():
    x, w, b = operands(5, 7, 19, np.float32)
    x[2, 3] = np.nan
    y, dx, dw, db = passes(x, w, b)
    assert np.isnan(y[2]).all() and np.isnan(y).sum() == 19
    assert np.isnan(dw[:, 3]).all() and np.isnan(dw).sum() == 19
    assert not np.isnan(dx).any() and not np.isnan(db).any()


@pytest.mark.parametrize("n", [1, 7])
def test_layer_follows_its_parameters(n):
    """A pass is settled without its parameters: a container may bring others."""
    layer, (x, _, _) = nn.Linear(5, 4, dtype=np.float64), operands(n, 5, 4)
    before = layer(x), layer.backward(np.ones((n, 4))).copy()
    model = nn.Sequential(layer)
    model.data *= 2
    np.testing.assert_allclose(layer(x), 2 * before[0], rtol=1e-14)
    np.testing.assert_allclose(layer.backward(np.ones((n, 4))), 2 * before[1], rtol=1e-14)
    np.testing.assert_allclose(layer.weight.grad, np.tile(x.sum(axis=0), (4, 1)), rtol=1e-13)
    assert np.shares_memory(layer.weight.grad, model.grad)


def test_layer_follows_weights_in_another_memory_order():
    layer, (x, w, _) = nn.Linear(5, 4, dtype=np.float64), operands(7, 5, 4)
    for weights in (np.ascontiguousarray(w), np.asfortranarray(w), 2 * np.ascontiguousarray(w)):
        layer.weight.data = weights
        np.testing.assert_allclose(layer(x), x @ weights.T + layer.bias.data, rtol=1e-13)
        np.testing.assert_allclose(layer.backward(np.ones((7, 4))), np.ones((7, 4)) @ weights, rtol=1e-13)


def test_empty_batch():
    x, w, b = operands(0, 5, 4)
    y, dx, dw, db = passes(x, w, b)
    assert (y.shape, dx.shape, dw.shape, db.shape) == ((0, 4), (0, 5), (4, 5), (4,))
    assert not dw.any() and not db.any()
    layer = nn.Linear(5, 4, dtype=np.float64)
    layer.weight.grad[...] = 7
    assert layer.backward(layer(x)).shape == (0, 5)
    assert not layer.weight.grad.any() and not layer.bias.grad.any()


@pytest.mark.parametrize("change, message", [
    ({"x": np.zeros((3, 4))}, r"x has 4 features \(shape \(3, 4\)\); expected 5, the in_features of w"),
    ({"x": np.zeros(5)}, r"x has shape \(5,\); expected \(N, features\)"),
    ({"x": np.zeros((3, 5), int)}, r"x has dtype int64; expected float32 or float64: convert it"),
    ({"w": np.zeros((4, 5), bool)}, r"w has dtype bool; expected float32 or float64"),
    ({"w": np.zeros((4, 5), np.float32)}, r"have different dtypes \(x float64, w float32, b float64\)"),
    ({"b": np.zeros(5)}, r"b has shape \(5,\); expected \(4,\)"),
    ({"b": np.zeros((4, 1))}, r"b has shape \(4, 1\); expected one axis"),
    ({"x": [[1.0] * 5]}, "x is a list; expected a NumPy array of float32 or float64"),
])  # fmt: skip
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        forward(**{"x": np.zeros((3, 5)), "w": np.zeros((4, 5)), "b": np.zeros(4), **change})


def test_bad_gradients():
    x, w, _ = operands(3, 5, 4)
    with pytest.raises(ValueError, match=r"dy has shape \(3, 5\); expected \(3, 4\)"):
        backward_input(x, w)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4\); expected \(3, 4\)"):
        backward_weight(np.zeros((2, 4)), x)
    with pytest.raises(ValueError, match="dy and x have different dtypes"):
        backward_weight(np.zeros((3, 4), np.float32), x)


@pytest.mark.parametrize("arguments, message", [
    ({"in_features": 0}, "in_features is 0; expected an integer of at least 1"),
    ({"out_features": 2.5}, "out_features is 2.5; expected an integer of at least 1"),
])  # fmt: skip
def test_layer_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.Linear(**{"in_features": 5, "out_features": 4, **arguments})


def test_layer_refuses_what_does_not_fit_its_weights():
    layer = nn.Linear(5, 4)
    for bad, message in [
        (np.zeros((3, 5)), "x has dtype float64; expected float32, the dtype of the layer's weights"),
        (np.zeros((3, 6), np.float32), r"x has 6 features \(shape \(3, 6\)\); expected 5"),
        (np.zeros((3, 5, 1, 1), np.float32), r"x has shape \(3, 5, 1, 1\); .* put a Flatten in front"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(bad)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_is_the_op(bias):
    layer = nn.Linear(5, 7, bias=bias, dtype=np.float64)
    x = normal((6, 5))
    y = layer(x)
    dy = normal(y.shape, seed=1)
    dx = layer.backward(dy).copy()
    grads = [layer.weight.grad, layer.bias.grad] if bias else [layer.weight.grad]
    expected = passes(x, layer.weight.data, layer.bias.data if bias else None, dy)
    for ours, wanted in zip((y, dx, *grads), expected):
        np.testing.assert_array_equal(ours, wanted)
    kept = y.copy()
    layer(2 * x)
    np.testing.assert_array_equal(y, kept)  # what was returned belongs to the caller
    layer(x)
    layer.weight.grad[...] = np.nan  # backward overwrites
    assert layer.backward(dy, input_gradient=False) is None
    np.testing.assert_array_equal(layer.weight.grad, expected[2])


@needs_torch
@settings(max_examples=15)
@given(st.integers(1, 40), features, features, dtypes)
def test_torch_agrees(n, k, o, dtype):
    import torch

    x, w, b = operands(n, k, o, dtype)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.linear(tx, tw, tb)
    dy = normal((n, o), dtype, 3)
    ty.backward(torch.tensor(dy))
    terms = passes(*map(np.abs, (x, w, b, dy)))
    for ours, theirs, size in zip(passes(x, w, b, dy), (ty.detach(), tx.grad, tw.grad, tb.grad), terms):
        assert (np.abs(ours - theirs.numpy()) <= 8 * np.finfo(dtype).eps * size).all()


def test_one_task_sums_the_bias_of_few_rows():
    """Eight inputs are rows for one task, and 80,000 outputs work for more: those without rows leave db alone."""
    x, dy = normal((2, 8), np.float32, 0), normal((2, 80_000), np.float32, 1)
    for _ in range(20):
        np.testing.assert_array_equal(backward_weight(dy, x)[1], dy[0] + dy[1])
